"""Shared by all tests: one thread each, so that runs beside each other do not fight for cores, and a tiny encoder."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded; children inherit it


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a BERT with three blocks of width 32."""
    from whet.testing import tiny_text_model

    return tiny_text_model(tmp_path_factory.mktemp("models") / "tiny")

"""What is looked into, what is refused, and that it is the same every time."""

from pathlib import Path

import pytest

import whet
from whet.errors import ConfigError, ModelError
from whet.testing import tiny_rows, tiny_text_model

from .make import PLAIN, rows_file


def test_the_same_rows_and_seed_give_the_same_answer(tiny_model: Path, tmp_path: Path) -> None:
    rows = rows_file(tmp_path)
    one, other, third = (whet.inspect(tiny_model, rows, "target", seed=seed, settings=PLAIN) for seed in (1, 1, 2))
    assert one == other
    assert one.probe != third.probe


def test_a_model_without_a_chain_says_so_and_is_read_whole(tmp_path: Path) -> None:
    folder = tiny_text_model(tmp_path / "one", layers=1)
    found = whet.inspect(folder, rows_file(tmp_path), "target", settings=PLAIN)
    assert found.probe is not None
    assert "No chain" in found.notes[0]
    assert sum(part.parameters for part in found.parts) == found.parameters
    assert [cut.name for cut in found.cuts] == ["features"]
    assert [block.name for block in found.probe.blocks] == ["features"]
    assert found.probe.suggestion is None
    assert next(one for one in found.methods if one.name == "top-layers").problem is not None


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        whet.inspect(tmp_path / "nowhere")


def test_settings_of_rows_need_rows_and_those_of_a_method_have_no_place(tiny_model: Path, tmp_path: Path) -> None:
    rows = rows_file(tmp_path)
    with pytest.raises(ConfigError, match="'target'") as caught:
        whet.inspect(tiny_model, target="target")
    assert "--data" in caught.value.fix
    with pytest.raises(ConfigError, match="'machinery'"):
        whet.inspect(tiny_model, settings=["machinery.threads=1"])
    with pytest.raises(ConfigError, match="every method"):
        whet.inspect(tiny_model, rows, "target", settings=["method.count=2"])
    with pytest.raises(ConfigError, match="No target was named"):
        whet.inspect(tiny_model, rows)


def test_pairs_are_refused_with_the_reason(tiny_model: Path) -> None:
    rows, _ = tiny_rows("classification", 40, pairs=True)
    with pytest.raises(ConfigError, match="never learnt to compare"):
        whet.inspect(tiny_model, rows.table.to_pylist(), "target", text=["text", "other"], settings=PLAIN)

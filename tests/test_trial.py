"""A dry run in another process: it finds what one in this process finds, and its death means that it does not fit."""

from dataclasses import replace
from pathlib import Path

import pytest

from test_laws_of_runs import PLAIN, write_topics
from whet import api
from whet.errors import ConfigError
from whet.methods.full import Full
from whet.methods.top_layers import TopLayers
from whet.sample import Sample
from whet.training.settings import Training
from whet.trial import Trial


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Trial:
    """What a plan of 80 rows would try."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_topics(tmp_path / "rows.csv", 80)
    one = api.plan("rows.csv", "topic", model=tiny_model, method="full", settings=PLAIN)
    sample = Sample.of(one.split, one.columns, one.task, one.state, one.processor, ())
    return Trial(one.pretrained, one.task, one.state, one.columns, sample.examples, sample.longest, sample.answered)


def under(trial: Trial, limit: int) -> Trial:
    machinery = replace(trial.pretrained.machinery, memory_limit_bytes=limit)
    return replace(trial, pretrained=replace(trial.pretrained, machinery=machinery))


def test_a_child_finds_what_this_process_finds(trial: Trial) -> None:
    training = Training(batch_size=8)
    here = under(trial, 2**42).cost(Full(), training)
    there = under(trial, 10**9).cost(Full(), training)
    assert here is not None
    assert there is not None
    for one, other in zip(here.descents, there.descents, strict=True):
        assert replace(one, token_seconds=0.0) == replace(other, token_seconds=0.0)
    assert (here.searches, here.starts, here.moved) == (there.searches, there.starts, there.moved)


def test_a_child_that_takes_too_much_ends_and_means_that_it_does_not_fit(trial: Trial) -> None:
    assert under(trial, 10**8).cost(Full(), Training(batch_size=8)) is None


def test_what_the_method_refuses_is_refused_from_the_child_too(trial: Trial) -> None:
    with pytest.raises(ConfigError, match="cannot train"):
        under(trial, 10**9).cost(TopLayers(9), Training())

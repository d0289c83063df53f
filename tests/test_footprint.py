"""Does a run fit memory? Batches are taken in parts until it does, and what cannot fit is refused while planning."""

from dataclasses import replace
from pathlib import Path

import pytest

from test_laws_of_runs import PLAIN, write_topics
from whet import api
from whet.errors import MachineError
from whet.footprint import choices, refusal
from whet.forecast import Speeds
from whet.methods.contrastive import Contrastive
from whet.methods.full import Full
from whet.plan import Plan
from whet.sample import Sample
from whet.training.memory import SHARE
from whet.training.settings import Training
from whet.trial import Trial

LARGE = (*PLAIN, "training.epochs=1", "training.batch_size=512", "machinery.most_tokens=256")
"""A batch that takes far more memory than anything else of so small a model."""
PART = 60 * 2**20
"""That it takes at least."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with 700 rows, long enough for a batch of them to stand out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    header, *rows = write_topics(tmp_path / "rows.csv", 700).read_text(encoding="utf-8").splitlines()
    longer = [f"{' '.join([text] * 4)},{topic}" for text, topic in (row.rsplit(",", 1) for row in rows)]
    (tmp_path / "rows.csv").write_text("\n".join([header, *longer]) + "\n", encoding="utf-8")
    return tmp_path


def test_a_batch_that_does_not_fit_is_taken_in_parts_and_the_plan_says_so(here: Path, tiny_model: Path) -> None:
    planned = [
        api.plan("rows.csv", "topic", model=tiny_model, method="full", settings=[*LARGE, *more]).plan
        for more in ((), ["training.micro_batch_size=8"], ())  # the first prepares kernels, which later ones find
    ]
    _, small, free = planned
    assert free.training.micro_batch_size is None
    assert not free.forecast.fitting
    assert free.forecast.memory_bytes > small.forecast.memory_bytes + PART
    limit = int((free.forecast.memory_bytes + small.forecast.memory_bytes) / 2 / SHARE)
    settings = [*LARGE, f"machinery.memory_limit_bytes={limit}"]
    tight = api.plan("rows.csv", "topic", model=tiny_model, method="full", settings=settings).plan
    assert tight.training.batch_size == 512
    assert (tight.training.micro_batch_size or 512) < 512
    assert tight.forecast.memory_bytes <= SHARE * limit
    assert f"{tight.training.micro_batch_size} examples a backward" in tight.brief()["memory"]
    tight.write(here / "plan.yaml")
    assert Plan.read(here / "plan.yaml") == tight


def test_test_rows_count_for_the_memory_of_answers_and_for_no_step(here: Path, tiny_model: Path) -> None:
    text, topic = (here / "rows.csv").read_text(encoding="utf-8").splitlines()[1].rsplit(",", 1)
    rows = [f"{number} {' '.join([text] * 3)},{topic}" for number in range(300)]
    (here / "long.csv").write_text("\n".join(["text,topic", *rows]) + "\n", encoding="utf-8")
    one = api.plan("rows.csv", "topic", test="long.csv", model=tiny_model, method="probe", settings=PLAIN)
    sample = Sample.of(one.split, one.columns, one.task, one.state, one.processor, ())
    alone = Sample.of(replace(one.split, tests={}), one.columns, one.task, one.state, one.processor, ())
    assert sample.answered.lengths.min() > sample.longest.lengths.max()
    assert sample.longest.lengths.tolist() == alone.longest.lengths.tolist() == alone.answered.lengths.tolist()


def test_a_batch_whose_examples_are_compared_is_never_taken_in_parts(here: Path, tiny_model: Path) -> None:
    one = api.plan("rows.csv", "topic", model=tiny_model, method="probe", settings=PLAIN)
    sample = Sample.of(one.split, one.columns, one.task, one.state, one.processor, ())
    trial = Trial(one.pretrained, one.task, one.state, one.columns, sample.examples, sample.longest, sample.answered)
    speeds = Speeds.measure(trial, sample, one.split, Training())
    together = [smaller.training for smaller in choices(speeds, Contrastive())]
    assert all(training.micro_batch_size is None for training in together)
    assert any(training.gradient_checkpointing for training in together)
    apart = [smaller.training for smaller in choices(speeds, Full())]
    assert [t.micro_batch_size for t in apart if not t.gradient_checkpointing] == [16, 8, 4, 2, 1]
    error = refusal(speeds, Contrastive(), None)
    assert "compared" in error.args[0]
    assert "training.batch_size" in error.args[2]


def test_a_limit_below_what_the_model_needs_is_refused_with_what_to_do(here: Path, tiny_model: Path) -> None:
    settings = [*PLAIN, "machinery.memory_limit_bytes=1000000"]
    with pytest.raises(MachineError, match="may be taken") as raised:
        api.plan("rows.csv", "topic", model=tiny_model, method="full", settings=settings)
    assert "--model" in raised.value.args[2]

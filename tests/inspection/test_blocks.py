"""Which cut follows from what the blocks of a model tell of the rows?"""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

import whet
from whet.backbones.text_encoder import TextEncoder
from whet.evaluation.metric import metric_named
from whet.evaluation.records import Score
from whet.inspection.blocks import standard_error, suggested
from whet.learners.neural import stages_of
from whet.plan import member_of, set_value
from whet.report.inspected import BlockScore
from whet.training.settings import Training

from .make import PLAIN, rows_file


def scored(*values: float, error: float = 0.02, better: bool = True) -> list[BlockScore]:
    half = error * 1.959964
    return [
        BlockScore(f"block {depth}", depth, Score("accuracy", one, one - half, one + half, "wilson", better), error)
        for depth, one in enumerate(values)
    ]


BLIND = Score("accuracy", 0.5, 0.48, 0.52, "wilson", True)


ACCURACY = metric_named("accuracy", "classification")


@pytest.mark.parametrize("kind", ["classification", "multi-label", "regression"])
def test_every_block_is_scored_on_rows_to_learn_from_alone(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    found = whet.inspect(tiny_model, rows_file(tmp_path, kind), "target", settings=PLAIN)
    probe = found.probe
    assert probe is not None
    assert found.data is not None
    assert set(found.data.rows) == {"train", "test"}
    assert probe.rows == found.data.rows["train"]
    assert [block.depth for block in probe.blocks] == [0, 1, 2, 3]
    for one in (probe.without, *(block.score for block in probe.blocks)):
        assert one.low <= one.value <= one.high
    assert asdict(found)["probe"]["blocks"][0]["score"]["metric"] == probe.metric


@pytest.mark.parametrize(
    ("values", "depth", "best"),
    [
        ((0.6, 0.7, 0.81, 0.82), 2, 3),
        ((0.6, 0.7, 0.79, 0.82), 3, 3),
        ((0.6, 0.83, 0.8, 0.7), 1, 1),
        ((0.82, 0.83, 0.8, 0.7), 0, 1),
    ],
)
def test_the_cut_is_the_lowest_within_one_standard_error_of_the_best(
    values: tuple[float, ...], depth: int, best: int
) -> None:
    found = suggested(scored(*values), BLIND, ACCURACY)
    assert found is not None
    assert (found.depth, found.best, found.train) == (depth, best, 3 - depth)


def test_an_error_is_best_when_low() -> None:
    metric = metric_named("rmse", "regression")
    blocks = [
        replace(one, score=replace(one.score, metric="rmse")) for one in scored(0.9, 0.41, 0.4, 0.6, better=False)
    ]
    found = suggested(blocks, replace(BLIND, metric="rmse", value=1.0), metric)
    assert found is not None
    assert (found.depth, found.best) == (1, 2)
    assert suggested(blocks, replace(BLIND, metric="rmse", value=0.41), metric) is None


def test_nothing_is_suggested_where_no_block_tells_more_than_no_features() -> None:
    assert suggested(scored(0.5, 0.51, 0.53), BLIND, ACCURACY) is None
    assert suggested(scored(0.9), BLIND, ACCURACY) is None


def test_a_standard_error_is_a_half_interval_in_deviations() -> None:
    block = scored(0.7, error=0.03)[0]
    assert standard_error(block.score) == pytest.approx(0.03, rel=1e-4)


def test_the_suggested_words_train_exactly_the_blocks_above_the_cut(tiny_model: Path) -> None:
    backbone = TextEncoder().load(tiny_model, outputs=2, seed=0)
    for values in ((0.6, 0.7, 0.81, 0.82), (0.6, 0.7, 0.79, 0.82), (0.9, 0.8, 0.7, 0.6)):
        found = suggested(scored(*values), BLIND, ACCURACY)
        assert found is not None
        words = dict(zip(found.options[::2], found.options[1::2], strict=True))
        wanted: dict[str, object] = {"method": words["--method"]}
        if "--set" in words:
            set_value(wanted, words["--set"])
        _, stages = stages_of(member_of("method", wanted["method"]), backbone, Training())
        names = {one for stage in stages for group in stage.groups for one in group.names}
        moving = [
            number
            for number, block in enumerate(backbone.blocks, 1)
            if any(one.startswith(f"{block}.") for one in names)
        ]
        assert moving == list(range(found.depth + 1, 4))

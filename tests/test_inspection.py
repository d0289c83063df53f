"""What is in a model, what every method would train, and where the answers of rows show."""

import csv
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import whet
from whet import catalog, methods
from whet.backbones.text_encoder import TextEncoder
from whet.errors import ConfigError, ModelError
from whet.evaluation.metric import metric_named
from whet.evaluation.records import Score
from whet.inspection import standard_error, suggested
from whet.learners.descent import gain_of_stages
from whet.learners.neural import stages_of
from whet.plan import member_of, set_value
from whet.report.inspected import BlockScore
from whet.testing import tiny_rows, tiny_text_model
from whet.training.settings import Training

PLAIN = ("machinery.threads=1", "machinery.precision=float32", "machinery.training_precision=float32",
         "backbone.attention=eager", "cache=off")  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def rows_file(folder: Path, kind: str = "classification", rows: int = 60) -> Path:
    """Rows that can be learnt, as a CSV; labels are joined by a semicolon."""
    found, _ = tiny_rows(kind, rows)  # type: ignore[arg-type]
    path = folder / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "target"])
        for row in found.table.to_pylist():
            target = row["target"]
            writer.writerow([row["text"], ";".join(target) if isinstance(target, list) else target])
    return path


def test_parts_hold_every_parameter_once(tiny_model: Path) -> None:
    for head in ("pooled", "native"):
        found = whet.inspect(tiny_model, head=head)
        assert sum(part.parameters for part in found.parts) == found.parameters
        assert [part.kind for part in found.parts].count("block") == 3
        assert len({part.name for part in found.parts}) == len(found.parts)
        assert found.parts[-1].name == "head"


def test_cuts_grow_from_input_to_output_and_say_what_crosses(tiny_model: Path) -> None:
    found = whet.inspect(tiny_model)
    below = [cut.parameters_below for cut in found.cuts]
    assert below == sorted(set(below))
    assert [(cut.width, cut.per_token) for cut in found.cuts] == [(32, True)] * 3 + [(32, False)]


def test_types_on_disk_are_counted_whatever_the_file(tiny_model: Path, tmp_path: Path) -> None:
    found = whet.inspect(tiny_model)
    head = found.parts[-1].parameters
    assert found.weights.stored == {"float32": found.parameters - head}
    pickled = shutil.copytree(tiny_model, tmp_path / "pickled")
    halves = {name: tensor.half() for name, tensor in load_file(pickled / "model.safetensors").items()}
    torch.save(halves, pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    assert whet.inspect(pickled).weights.stored == {"float16": found.parameters - head}


def test_every_method_of_the_catalog_is_asked_on_a_model_of_its_own(tiny_model: Path) -> None:
    found = {one.name: one for one in whet.inspect(tiny_model).methods}
    assert list(found) == list(catalog.members("method"))
    for name, facts in found.items():  # each alone, on a fresh model, says the same
        if facts.problem is not None:
            continue
        backbone = TextEncoder().load(tiny_model, outputs=2, seed=0)
        prepared, stages = stages_of(member_of("method", name), backbone, Training())
        names = {one for stage in stages for group in stage.groups for one in group.names}
        names |= {one for one in backbone.created if any(stage.head for stage in stages)}
        every = dict(prepared.model.named_parameters())
        assert facts.parameters == sum(every[one].numel() for one in names)
        assert facts.share == facts.parameters / sum(one.numel() for one in every.values())


def test_the_bound_of_replay_is_the_one_that_a_plan_prints(tmp_path: Path) -> None:
    folder = tiny_text_model(tmp_path / "six", layers=6)
    found = {one.name: one for one in whet.inspect(folder).methods}
    top, full = found["top-layers"], found["full"]
    assert (top.moving, top.blocks) == (2, 6)
    assert top.replay_gain == gain_of_stages([(6, 2, methods.TopLayers().epochs)])
    assert full.replay_gain is None


def test_methods_that_cannot_work_say_what_planning_says(tmp_path: Path) -> None:
    folder = tiny_text_model(tmp_path / "two", layers=2)
    found = {one.name: one for one in whet.inspect(folder).methods}
    failing = {name for name, one in found.items() if one.problem is not None}
    assert "gradual" in failing
    assert "top-layers" not in failing
    for name in failing:
        with pytest.raises(ConfigError) as caught:
            stages_of(member_of("method", name), TextEncoder().load(folder, outputs=2, seed=0), Training())
        problem = found[name].problem
        assert problem is not None
        assert (problem.what, problem.fix) == (caught.value.what, caught.value.fix)
        assert found[name].parameters == 0


def test_what_the_task_forbids_is_said_where_there_are_rows(tiny_model: Path, tmp_path: Path) -> None:
    rows = rows_file(tmp_path, "regression")
    found = {one.name: one for one in whet.inspect(tiny_model, rows, "target", settings=PLAIN).methods}
    problem = found["contrastive"].problem
    assert problem is not None
    assert "regression" in problem.what
    assert whet.inspect(tiny_model).methods[list(found).index("contrastive")].problem is None


def test_frozen_parts_train_under_no_method(tiny_model: Path) -> None:
    plain = {one.name: one for one in whet.inspect(tiny_model).methods}
    found = {one.name: one for one in whet.inspect(tiny_model, settings=["training.freeze=[layer.2]"]).methods}
    assert found["full"].moving == plain["full"].moving - 1
    assert found["full"].parameters < plain["full"].parameters
    assert found["full"].replay_gain == plain["full"].replay_gain


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


def test_the_same_rows_and_seed_give_the_same_answer(tiny_model: Path, tmp_path: Path) -> None:
    rows = rows_file(tmp_path)
    one, other, third = (whet.inspect(tiny_model, rows, "target", seed=seed, settings=PLAIN) for seed in (1, 1, 2))
    assert one == other
    assert one.probe != third.probe


def scored(*values: float, error: float = 0.02, better: bool = True) -> list[BlockScore]:
    half = error * 1.959964
    return [
        BlockScore(f"block {depth}", depth, Score("accuracy", one, one - half, one + half, "wilson", better), error)
        for depth, one in enumerate(values)
    ]


BLIND = Score("accuracy", 0.5, 0.48, 0.52, "wilson", True)
ACCURACY = metric_named("accuracy", "classification")


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

"""What would every method train, and why can one not?"""

from pathlib import Path

import pytest

import whet
from whet import catalog, methods
from whet.backbones.text_encoder import TextEncoder
from whet.errors import ConfigError
from whet.learners.descent import gain_of_stages
from whet.learners.neural import stages_of
from whet.plan import member_of
from whet.testing import tiny_text_model
from whet.training.settings import Training

from .make import PLAIN, rows_file


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
    assert top.replay_gain == gain_of_stages([(2 / 6, methods.TopLayers().epochs)])
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

"""Arguments become a partial plan and objects; no test set that was named is lost on the way."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whet.api import finetune
from whet.errors import ConfigError
from whet.request import files_of, objects_of, partial_plan, seconds_of
from whet.wanted import method_of

FRAME = {"text": ["a", "b"], "topic": ["x", "y"]}
ROWS = [{"text": "a", "topic": "x"}]


@pytest.mark.parametrize(
    ("test", "objects", "files"),
    [
        (None, None, []),
        ("a.csv", None, ["a.csv"]),
        (["a.csv", Path("b.csv")], None, ["a.csv", Path("b.csv")]),
        (ROWS, [ROWS], []),
        (FRAME, [FRAME], []),
        ([ROWS, ROWS], [ROWS, ROWS], []),
        (["a.csv", FRAME], ["a.csv", FRAME], ["a.csv"]),
        ({"easy": "a.csv", "hard": "b.csv"}, {"easy": "a.csv", "hard": "b.csv"}, ["a.csv", "b.csv"]),
    ],
)
def test_every_test_set_arrives_as_a_file_or_an_object(test: Any, objects: Any, files: list[Any]) -> None:
    assert objects_of(test) == objects
    assert files_of(test) == files


def test_frames_by_name_keep_their_names() -> None:
    pandas = pytest.importorskip("pandas")
    named = {"easy": pandas.DataFrame(FRAME), "hard": pandas.DataFrame(FRAME)}
    assert objects_of(named) is named
    assert files_of(named) == []


def test_a_budget_keeps_what_else_is_set_for_the_ladder() -> None:
    wanted = partial_plan("rows.csv", "topic", settings=["method.name=auto", "method.methods=[probe, full]"], time="5m")
    assert wanted["method"] == {"name": "auto", "methods": ["probe", "full"], "seconds": 300.0}


def test_a_head_leaves_the_family_to_be_recognised() -> None:
    assert partial_plan("rows.csv", "topic", head="native")["backbone"] == {"head": "native"}


@pytest.mark.parametrize("text", ["", "soon", "-5s", "0", "0s", 0.0, -1.0, "inf", "5 parsecs"])
def test_what_is_no_time_is_refused(text: float | str) -> None:
    with pytest.raises(ConfigError, match="leaves no time" if str(text).startswith("0") else "not a time"):
        seconds_of(text)


@pytest.mark.parametrize("seed", [-1, "3", 1.5, True])
def test_a_seed_that_is_none_is_refused(seed: Any) -> None:
    with pytest.raises(ConfigError, match="seed"):
        partial_plan("rows.csv", "target", seed=seed)


@pytest.mark.parametrize(
    ("name", "given"),
    [("text", 5), ("target", 5), ("group", 5), ("time_column", 2.5), ("encoding", 5), ("max_length", "a"),
     ("training", 5), ("plan", 5), ("max_length", True)],
)  # fmt: skip
def test_an_argument_of_a_kind_that_cannot_be_used_is_refused_by_name(name: str, given: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name} cannot be {given!r}") as raised:
        partial_plan("rows.csv", **{"target": "topic", name: given})
    assert raised.value.args[1] == name


def test_a_folder_or_a_beginning_that_is_none_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    for wrong in ({"out": 5}, {"began": "x"}):
        with pytest.raises(ConfigError, match="cannot be"):
            finetune(tmp_path / "rows.csv", "topic", **wrong)
    assert not list(tmp_path.iterdir())


def test_a_whole_number_of_numpy_is_a_seed() -> None:
    assert partial_plan("rows.csv", "target", seed=np.int64(3))["seed"] == 3


@pytest.mark.parametrize(
    "name",
    ["seed", "data.test_fraction", "data.source", "data.tests", "model.name", "machinery.threads", "training.clip",
     "method.methods", "method.seconds", "evaluation.metric"],
)  # fmt: skip
def test_a_setting_without_a_value_is_refused_where_it_needs_one(tmp_path: Path, name: str) -> None:
    part, _, field = name.rpartition(".")
    (tmp_path / "plan.yaml").write_text(f"{part}:\n  {field}:\n" if part else f"{field}:\n", encoding="utf-8")
    for given in ({"settings": [f"{name}=null"]}, {"plan": tmp_path / "plan.yaml"}):
        with pytest.raises(ConfigError, match=f"{field} has no value") as raised:
            method_of(partial_plan("rows.csv", "topic", **given).get("method"))
        assert raised.value.args[1] == name
        assert "leave it out" in raised.value.args[2]


def test_a_setting_that_may_be_left_open_takes_none() -> None:
    wanted = partial_plan("rows.csv", "topic", settings=["training.epochs=null", "method.folds=null", "cache=null"])
    assert (wanted["training"]["epochs"], method_of(wanted["method"]).folds, wanted["cache"]) == (None, None, None)

"""Which methods does the automatic ladder climb, and what does it say of the others?"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import whet
from plain import PLAIN
from whet import catalog
from whet.errors import ConfigError
from whet.evaluation.metric import metric_named
from whet.methods.contrastive import FEW_ROWS, Contrastive
from whet.methods.full import Full
from whet.methods.lora import MANY_PARAMETERS
from whet.methods.method import Place, Size
from whet.methods.probe import Probe
from whet.plan import Auto, Plan, Rung
from whet.rungs import UNKNOWN, Conditions, Counts, trusted_of, usual_methods
from whet.search.crossfit import Attempt
from whet.search.ladder import Spent, compare_rung
from whet.tasks.predictions import Predictions
from whet.testing import tiny_rows
from whet.training.settings import Training
from whet.trial import Trial

USUAL = ("probe", "top-layers", "full")
CHOOSING = (
    *PLAIN,
    "training.epochs=2",
    "data.valid_fraction=0.4",
)


@pytest.mark.parametrize(
    ("classes", "rows", "parameters", "ladder"),
    [
        (3, 3 * FEW_ROWS + 1, MANY_PARAMETERS, USUAL),
        (3, 3 * FEW_ROWS, MANY_PARAMETERS, ("probe", "contrastive", "full")),
        (0, 10, MANY_PARAMETERS, USUAL),
        (3, 5, MANY_PARAMETERS, USUAL),
        (3, 6, MANY_PARAMETERS, ("probe", "contrastive", "full")),
        (3, 10_000, MANY_PARAMETERS + 1, ("probe", "top-layers", "lora")),
        (3, 30, MANY_PARAMETERS + 1, ("probe", "contrastive", "lora")),
    ],
)
def test_counts_alone_choose_the_ladder(classes: int, rows: int, parameters: int, ladder: tuple[str, ...]) -> None:
    names, replaced = usual_methods(Size(parameters=parameters, rows=rows, classes=classes, compared=32))
    assert names == ladder
    assert {one.name for one in replaced.values()} == set(USUAL) - set(ladder)
    assert set(replaced) == set(ladder) - set(USUAL)
    assert usual_methods(UNKNOWN)[0] == USUAL


def test_a_trusted_rung_is_kept_unless_rows_show_that_it_is_worse() -> None:
    """Of 40 rows the rung before has 20 right; the trusted one has as many, a few less, or far less."""
    ids, targets = np.arange(40), np.zeros(40, np.int64)

    def answers(right: int) -> Predictions:
        decided = (ids >= right).astype(np.int64)
        return Predictions("classification", ids, np.eye(2)[decided], decided, ("a", "b"), targets)

    def kept(right: int, *, trusted: bool) -> bool:
        rung = Rung(method=Contrastive(), epochs=1, seconds=1.0, trusted=trusted)
        metric, spent = metric_named("accuracy", "classification"), Spent(1.0, None)
        return compare_rung(rung, Attempt(answers(right), 1, 1), answers(20), metric, 0, spent).kept

    assert [kept(right, trusted=True) for right in (20, 19, 10)] == [True, True, False]
    assert [kept(right, trusted=False) for right in (30, 20, 19)] == [True, False, False]


@pytest.mark.parametrize(("seconds", "method"), [("10m", "contrastive"), ("1s", "probe")])
def test_where_nothing_can_be_compared_a_trusted_method_is_taken_if_the_budget_covers_it(
    tiny_model: Path, tmp_path: Path, seconds: str, method: str
) -> None:
    table = tiny_rows("classification", 36)[0].table.to_pylist()
    plan = whet.plan(table, "target", model=tiny_model, settings=(*PLAIN, "method.folds=0"), time=seconds).plan
    assert names_of(plan) == [method]
    assert plan.method.rungs[0].trusted == (method == "contrastive")
    reasons = {one.name: one.why for one in plan.method.left_out}
    if method == "contrastive":
        assert "too few rows to choose by" in reasons["probe"]
        assert "contrastive gained with at most 64 rows a class in trials" in reasons["probe"]
    plan.write(tmp_path / "plan.yaml")
    assert Plan.read(tmp_path / "plan.yaml") == plan


def test_few_of_its_passes_are_no_ground_for_trust(tiny_model: Path) -> None:
    table = tiny_rows("classification", 120)[0].table.to_pylist()
    settings = (*PLAIN, "data.valid_fraction=0.4", "training.least_steps=2000")
    wanted, fewer = 0.0, 0
    for seconds in (600, 120, 60, 25, 15, 10):
        plan = whet.plan(table, "target", model=tiny_model, settings=settings, time=f"{seconds}s").plan
        contrast = [rung for rung in plan.method.rungs if isinstance(rung.method, Contrastive)]
        wanted = wanted or contrast[0].epochs
        own = wanted * Contrastive.least_steps / 2000  # the user's own wish is no measure
        assert all(rung.trusted == (rung.epochs >= own / 2) for rung in contrast)
        fewer += len(contrast) if seconds < 600 else 0
        assert not any(rung.trusted for rung in plan.method.rungs if rung not in contrast)
    assert fewer


def fixed(training: int, valid: int, *, given: bool = False, **settings: object) -> Conditions:
    """What a ladder for two classes is fixed by, with all that is measured left out."""
    speeds = SimpleNamespace(parameters=10**7)
    counts = Counts(False, 2, training + valid, training if given else training + valid, valid)
    return Conditions(speeds, Training(**settings), counts)  # type: ignore[arg-type]


def test_trust_counts_the_rows_that_are_trained_on() -> None:
    """Not those of a validation file, nor a batch in which nothing can be contrasted."""

    def trusted(at: Conditions) -> bool:
        return trusted_of([Probe(), Contrastive(), Full()], at.size) is not None

    assert trusted(fixed(14, 2))
    assert not trusted(fixed(14, 2, given=True))
    assert trusted(fixed(16, 2, given=True))
    assert not trusted(fixed(2, 14, given=True))
    assert not trusted(fixed(16, 0, batch_size=2))
    assert not trusted(fixed(16, 0, micro_batch_size=4))


def test_what_the_user_shortened_is_not_trusted(tiny_model: Path) -> None:
    table = tiny_rows("classification", 36)[0].table.to_pylist()
    settings = (*PLAIN, "method.folds=0", "training.epochs=1")
    plan = whet.plan(table, "target", model=tiny_model, settings=settings, time="10m").plan
    assert names_of(plan) == ["probe"]


def test_a_trusted_method_must_earn_its_place_over_a_tuned_one(tiny_model: Path) -> None:
    """Trials were against the head alone; here every rung changes nothing, so nothing is gained."""
    table = tiny_rows("classification", 90)[0].table.to_pylist()
    told = {}
    for methods in ("probe, contrastive", "bias-only, contrastive"):
        settings = (*PLAIN, f"method.methods=[{methods}]", "method.folds=3", "training.learning_rate=1e-12")
        result = whet.finetune(
            table, "target", model=tiny_model, settings=settings, time="10m", out=tiny_model.parent / methods
        )
        told[methods] = [rung.kept for rung in result.story.rungs[:2]]
    assert told == {"probe, contrastive": [True, True], "bias-only, contrastive": [True, False]}


def test_methods_of_other_packages_join_the_ladder_and_ours_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {
        **catalog.TABLES["method"],
        "gone": catalog.Member("no_such_package:Gone", ""),
        "theirs": catalog.Member(f"{__name__}:Theirs", ""),
    }
    monkeypatch.setitem(catalog.TABLES, "method", table)
    assert usual_methods(UNKNOWN)[0] == USUAL
    names, replaced = usual_methods(Size(parameters=1, rows=10**9, classes=2, compared=32))
    assert names == ("probe", "theirs", "full")
    assert replaced["theirs"].why == "theirs takes its place above a million rows"


class Theirs(Full):
    height = 2

    @classmethod
    def place(cls, size: Size) -> Place | None:
        return Place("above a million rows") if size.rows > 10**6 else None


def planned(model: Path, kind: Any = "classification", *settings: str, rows: int = 120, **more: Any) -> Plan:
    table = tiny_rows(kind, rows)[0].table.to_pylist()
    more = {"time": "10m", **more}
    return whet.plan(table, "target", model=model, settings=(*CHOOSING, *settings), **more).plan


def names_of(plan: Plan) -> list[str]:
    assert isinstance(plan.method, Auto)
    return [catalog.name_of("method", rung.method) for rung in plan.method.rungs]


def test_few_rows_a_class_are_contrasted_and_this_is_said(tiny_model: Path, tmp_path: Path) -> None:
    plan = planned(tiny_model)
    assert names_of(plan) == ["probe", "contrastive", "full"]
    assert "without top-layers: contrastive takes its place with at most 64 rows a class" in plan.brief()["method"]
    plan.write(tmp_path / "plan.yaml")
    assert Plan.read(tmp_path / "plan.yaml") == plan


@pytest.mark.parametrize(
    ("kind", "settings", "more"),
    [
        ("regression", (), {}),
        ("multi-label", (), {}),
        ("classification", ("training.micro_batch_size=8",), {}),
        ("classification", (), {"loss": lambda outputs, targets: outputs.sum(1)}),
    ],
)
def test_where_nothing_can_be_contrasted_the_usual_ladder_stays(
    kind: str, settings: tuple[str, ...], more: dict[str, Any], tiny_model: Path
) -> None:
    assert names_of(planned(tiny_model, kind, *settings, **more)) == list(USUAL)


def test_a_rung_that_cannot_work_is_left_out_with_the_reason(tiny_model: Path) -> None:
    plan = planned(tiny_model, "regression", "method.methods=[probe, contrastive, full]")
    assert names_of(plan) == ["probe", "full"]
    (one,) = plan.method.left_out
    assert (one.name, one.why) == ("contrastive", "The stage 'contrast' contrasts classes, and a regression has none")
    assert one.hint


@pytest.mark.parametrize("name", list(catalog.members("method")))
def test_every_method_can_be_a_rung(name: str, tiny_model: Path) -> None:
    if name in ("lora", "adapter"):
        pytest.importorskip("peft")
    ladder = ["probe", "full" if name == "probe" else name]
    assert names_of(planned(tiny_model, "classification", f"method.methods=[{','.join(ladder)}]")) == ladder


def test_an_unknown_rung_is_refused_with_the_nearest(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="no method named 'contrast'") as caught:
        planned(tiny_model, "classification", "method.methods=[probe, contrast]")
    assert "'contrastive'" in caught.value.fix


def test_what_the_budget_cannot_cover_is_left_out_before_a_step_is_tried(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    real = Trial.cost

    def noted(self: Trial, method: Any, training: Any) -> Any:
        tried.append(catalog.name_of("method", method))
        return real(self, method, training)

    monkeypatch.setattr(Trial, "cost", noted)
    table = tiny_rows("classification", 120)[0].table.to_pylist()
    plan = whet.plan(table, "target", model=tiny_model, settings=CHOOSING, time="1s").plan
    assert set(tried) == {"probe"}
    assert names_of(plan) == ["probe"]
    assert {one.name for one in plan.method.left_out} == {"contrastive", "full"}
    assert all("at the very least" in one.why for one in plan.method.left_out)

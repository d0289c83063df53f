"""A setting that nothing would read is refused by name; one at its default never is."""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import whet
from plain import PLAIN
from whet import catalog
from whet.errors import ConfigError
from whet.tasks.classification import Classification
from whet.testing import check_task, tiny_rows
from whet.training.settings import OF_HEAD, OF_LOSS, Training
from whet.unread import OF_VALIDATION

OTHER: dict[str, str] = {
    "epochs": "1", "least_steps": "1", "optimizer": "sgd", "learning_rate": "1e-3", "head_learning_rate": "2",
    "batch_size": "8", "micro_batch_size": "4", "gradient_checkpointing": "true", "warmup": "0.2",
    "schedule": "cosine", "weight_decay": "0.1", "clip": "2", "patience": "1", "evaluations_per_epoch": "1",
    "freeze": "[embeddings]", "average": "ema", "dropout": "0.2",
    "mixup": "0.2", "r_drop": "1", "sampling": "balanced", "most_seconds": "60", "views": "4",
    "augment": "[flip]",
}  # fmt: skip
"""A value of each training setting that is not its default."""


@pytest.fixture
def planned(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Plans on 120 rows of three classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = tiny_rows("classification", 120)[0].table.to_pylist()

    def plan(method: str, *settings: str, **more: Any) -> Any:
        return whet.plan(rows, "target", model=tiny_model, method=method, settings=(*PLAIN, *settings), **more).plan

    return plan


def refused(plan: Callable[..., Any], where: str, *words: str, **more: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(*words, **more)
    assert caught.value.where == where
    assert where.rpartition(".")[2] in caught.value.what


def own(outputs: Any, targets: Any) -> Any:
    return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")


def test_without_steps_every_training_setting_is_refused(planned: Callable[..., Any]) -> None:
    assert set(OTHER) == {entry.name for entry in fields(Training)}
    for name, value in OTHER.items():
        refused(planned, f"training.{name}", "probe", f"training.{name}={value}")


@pytest.mark.parametrize("name", [*OF_LOSS, *OF_HEAD])
def test_a_loss_of_features_alone_reads_no_setting_of_the_tasks_loss(planned: Callable[..., Any], name: str) -> None:
    refused(planned, f"training.{name}", "contrastive", f"training.{name}={OTHER[name]}")


@pytest.mark.parametrize("method", ["probe", "contrastive"])
def test_what_shapes_a_loss_that_is_never_minimised_is_refused(planned: Callable[..., Any], method: str) -> None:
    for setting in ("task.focal_gamma=2", "task.label_smoothing=0.3"):
        refused(planned, setting.partition("=")[0], method, setting)
    refused(planned, "loss", method, loss=own)
    assert planned(method, "task.class_weights=balanced").task.class_weights == "balanced"


def test_a_ladder_refuses_only_what_no_rung_could_read(planned: Callable[..., Any]) -> None:
    solved, contrasted = "method.methods=[probe]", "method.methods=[probe, contrastive]"
    refused(planned, "training.weight_decay", "auto", solved, "training.weight_decay=0.1")
    refused(planned, "task.focal_gamma", "auto", contrasted, "task.focal_gamma=2")
    refused(planned, "training.patience", "auto", contrasted, "training.patience=1")
    refused(planned, "loss", "auto", contrasted, loss=own)
    assert planned("auto", contrasted, "training.weight_decay=0.1").training.weight_decay == 0.1
    assert planned("auto", "task.focal_gamma=2", "training.patience=1", time="5s").task.focal_gamma == 2


def test_a_default_that_is_written_out_is_accepted(planned: Callable[..., Any]) -> None:
    written = ("training.weight_decay=0.01", "training.schedule=linear", "training.patience=4", "task.focal_gamma=0")
    for found in (planned("probe", *written), planned("probe", training=Training())):
        assert found.training == planned("probe").training


def test_a_loss_of_ones_own_heeds_no_setting_of_the_tasks(planned: Callable[..., Any]) -> None:
    for setting in ("task.class_weights=balanced", "task.focal_gamma=2", "task.label_smoothing=0.1"):
        refused(planned, setting.partition("=")[0], "full", setting, loss=own)
    with pytest.raises(ConfigError, match=r"task\.class_weights and task\.label_smoothing"):
        planned("full", "task={class_weights: balanced, label_smoothing: 0.1}", loss=own)
    assert planned("full", "training.epochs=1", "task.focal_gamma=0", loss=own).training.epochs == 1


@pytest.mark.parametrize("name", ["dropout", "attention_dropout"])
def test_dropout_of_the_backbone_needs_steps(planned: Callable[..., Any], name: str) -> None:
    refused(planned, f"backbone.{name}", "probe", f"backbone.{name}=0.5")
    refused(planned, f"backbone.{name}", "auto", "method.methods=[probe]", f"backbone.{name}=0.5")
    assert getattr(planned("contrastive", f"backbone.{name}=0.5").backbone, name) == 0.5
    rows = tiny_rows("classification", 120)[0].table.to_pylist()
    settings = (*PLAIN, "training.epochs=1", f"backbone.{name}=0.5")
    whet.finetune(rows, "target", model=planned("probe").model.folder, method="full", settings=settings, out="first")
    found = whet.plan(rows, "target", model="first", method="probe", settings=PLAIN).plan
    assert getattr(found.backbone, name) == 0.5, "nobody asked for what an earlier run had"
    found.write(Path("plan.yaml"))
    assert whet.plan(rows, plan="plan.yaml").plan == found


@pytest.mark.parametrize("name", OF_VALIDATION)
def test_what_measures_validation_loss_needs_rows_that_are_held_out(planned: Callable[..., Any], name: str) -> None:
    setting = f"training.{name}={OTHER[name]}"
    refused(planned, f"training.{name}", "full", setting, "data.valid_fraction=0")
    found = planned("full", setting)
    found.write(Path("plan.yaml"))
    rows = tiny_rows("classification", 120)[0].table.to_pylist()
    assert whet.plan(rows, plan="plan.yaml").plan == found
    assert planned("full", "training.patience=0", "data.valid_fraction=0").training.patience == 0


def some_rows() -> list[Any]:
    """Rows, which also lie in a file."""
    found: list[Any] = tiny_rows("classification", 40, seed=9)[0].table.to_pylist()
    Path("some.jsonl").write_text("\n".join(map(json.dumps, found)), encoding="utf-8")
    return found


def test_what_is_named_beside_what_leaves_it_nothing_to_do_is_refused(planned: Callable[..., Any]) -> None:
    for rows in (some_rows(), "some.jsonl"):
        refused(planned, "data.test_fraction", "probe", "data.test_fraction=0.4", test=rows)
        refused(planned, "data.valid_fraction", "full", "data.valid_fraction=0.4", valid=rows)
    refused(planned, "training.least_steps", "full", "training.least_steps=90", "training.epochs=2")
    refused(planned, "training.least_steps", "full", training=Training(least_steps=90, epochs=2))
    refused(planned, "earlier.run", "probe", "earlier.run=runs/first")
    refused(planned, "evaluation.baselines", "probe", "evaluation.baselines=[majority, earlier]")


def test_a_resolved_plan_names_nothing_that_it_only_holds(planned: Callable[..., Any]) -> None:
    rows = tiny_rows("classification", 120)[0].table.to_pylist()
    some_rows()
    found = planned("full", "training.least_steps=90", "data.test_fraction=0.3", "data.valid_fraction=0.3")
    assert found.training.epochs
    found.write(Path("plan.yaml"))
    assert whet.plan(rows, plan="plan.yaml").plan == found
    assert whet.plan(rows, plan="plan.yaml", seed=1).plan.training == found.training
    beside = {"test": "some.jsonl", "valid": "some.jsonl"}
    assert whet.plan(rows, plan="plan.yaml", **beside).plan.training.least_steps == 90
    refused(
        lambda: whet.plan(rows, plan="plan.yaml", test="some.jsonl", settings=["data.test_fraction=0.4"]),
        "data.test_fraction",
    )


@dataclass(frozen=True, kw_only=True)
class Hinged(Classification):
    """What another package may add: a task whose loss has a setting of its own."""

    margin: float = 0.0
    loss_settings: ClassVar[tuple[str, ...]] = ("label_smoothing", "focal_gamma", "margin")


def test_a_task_of_another_package_names_its_own_settings(
    planned: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_task(Hinged(margin=0.5))
    monkeypatch.setitem(catalog.TASKS, "hinged", catalog.Member(f"{__name__}:Hinged", "classes apart by a margin"))
    refused(planned, "task.margin", "probe", "task={name: hinged, margin: 0.5}")
    refused(planned, "task.margin", "full", "task={name: hinged, margin: 0.5}", loss=own)


def test_what_a_plan_file_filled_in_for_steps_is_left_behind_by_a_method_without(planned: Callable[..., Any]) -> None:
    rows = tiny_rows("classification", 120)[0].table.to_pylist()
    found = planned("full", "training.micro_batch_size=8")
    assert found.training.learning_rate
    found.write(Path("plan.yaml"))
    assert whet.plan(rows, plan="plan.yaml", method="probe").plan.training.learning_rate is None
    for name, value in (("epochs", f"{found.training.epochs:g}"), ("patience", "1")):
        with pytest.raises(ConfigError, match=name):
            whet.plan(rows, plan="plan.yaml", method="probe", settings=[f"training.{name}={value}"])


def test_a_whole_plan_is_refused_like_any_other(planned: Callable[..., Any]) -> None:
    rows = tiny_rows("classification", 120)[0].table.to_pylist()
    planned("contrastive", "training.epochs=1").write(Path("plan.yaml"))
    assert whet.plan(rows, plan="plan.yaml").plan.training.epochs == 1
    refused(lambda: whet.plan(rows, plan="plan.yaml", loss=own), "loss")


def test_a_run_that_goes_on_need_not_read_what_the_earlier_one_set(
    planned: Callable[..., Any], tiny_model: Path
) -> None:
    rows = tiny_rows("classification", 120)[0].table.to_pylist()
    smooth = (*PLAIN, "training.epochs=1", "task.label_smoothing=0.1")
    whet.finetune(rows, "target", model=tiny_model, method="top-layers", settings=smooth, out="first")
    found = whet.plan(rows, "target", model="first", method="probe", settings=PLAIN).plan
    assert found.task.label_smoothing == 0.1
    found.write(Path("plan.yaml"))
    assert whet.plan(rows, plan="plan.yaml").plan == found
    assert whet.plan(rows, plan="plan.yaml", seed=3).plan.seed == 3

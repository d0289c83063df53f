"""Mixed features and forwards that agree: the formulas, law 2 with both, and what they refuse."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from learners.make import QUICK, bytes_of, drained, made
from training.test_steps import Padder, Pools, problem
from whet.backbones.dropout import drops
from whet.backbones.text_encoder import TextEncoder
from whet.errors import ConfigError
from whet.methods.contrastive import Contrastive
from whet.methods.full import Full
from whet.methods.method import RateGroup
from whet.methods.top_layers import TopLayers
from whet.tasks.classification import Classification
from whet.tasks.divergence import between_classes, between_labels, between_numbers
from whet.tasks.multi_label import MultiLabel
from whet.tasks.regression import Regression
from whet.tasks.task import Task
from whet.testing import check_task
from whet.training.batches import Source
from whet.training.events import Stepped
from whet.training.loop import Budget, start_state, take_step
from whet.training.objective import TaskObjective
from whet.training.precision import Working
from whet.training.regularise import Regularised, partners
from whet.training.settings import Training

TASKS = [
    Classification(class_weights="balanced"), Classification(label_smoothing=0.1, focal_gamma=2.0),
    MultiLabel(focal_gamma=1.0), Regression(),
]  # fmt: skip
METHOD = Full(learning_rate=3e-3, epochs=2, solve=QUICK)
REPLAYED = TopLayers(1, learning_rate=3e-3, epochs=2, solve=QUICK)


class Drops(nn.Module):
    """Drops by content, not by place: what an example loses does not depend on the others of its batch.

    Every second forward drops nothing, so that two forwards differ.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (1.0 + 0.3 * torch.cos(97 * x.detach())) if self.calls % 2 else x


class Model(nn.Module):
    """``Pools`` in the shape of a model under training: body, scaler, head."""

    def __init__(self, outputs: int, agreeing: bool) -> None:
        super().__init__()
        pools = Pools(outputs)
        self.head, self.scaler, pools.outer = pools.outer, nn.Identity(), nn.Identity()  # type: ignore[assignment]
        self.pools, self.drops = pools, Drops() if agreeing else nn.Identity()

    def body(self, **inputs: Tensor) -> Tensor:
        found: Tensor = self.drops(self.pools(**inputs))
        return found

    def forward(self, **inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(**inputs))
        return found


def after_an_epoch(task: Task, micro: int, mixup: float, agreement: float) -> tuple[list[Tensor], list[float]]:
    """Weights and losses after an epoch of ragged examples whose last window is not full."""
    examples, state = problem(task)
    source = Source(examples, Padder(), 9, micro, 0, mixup=mixup)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model: Any = Model(task.outputs(state), agreement > 0)
    working = Working(model, model)
    settings = Training(warmup=0.0, schedule="constant", clip=0.5)
    groups = (RateGroup(names=tuple(name for name, _ in model.named_parameters())),)
    steps = start_state(working, groups, 0.05, settings)
    budget = Budget(steps=source.steps_per_epoch, every=1, evaluate=None, settings=settings)
    objective = Regularised(TaskObjective(task, state, model, None), agreement)
    losses = [take_step(steps, "s", source, objective, working, budget, 0).loss for _ in range(source.steps_per_epoch)]
    return [parameter.detach().clone() for parameter in model.parameters()], losses


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
@pytest.mark.parametrize(
    ("mixup", "agreement", "micros"), [(0.4, 0.0, (2, 4)), (0.0, 0.7, (1, 4, 7)), (0.4, 0.7, (2, 6))]
)
def test_micro_batches_give_the_update_of_one_batch(
    task: Task, mixup: float, agreement: float, micros: tuple[int, ...]
) -> None:
    whole, losses = after_an_epoch(task, 9, mixup, agreement)
    assert losses != pytest.approx(after_an_epoch(task, 9, 0.0, 0.0)[1], rel=1e-3)
    for micro in micros:
        parts, others = after_an_epoch(task, micro, mixup, agreement)
        assert others == pytest.approx(losses, rel=1e-8)
        for one, other in zip(parts, whole, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_without_either_it_is_the_plain_objective() -> None:
    for task in TASKS:
        examples, state = problem(task)
        batch = Source(examples, Padder(), 9, 9, 0).window("s", 0, 0)[0]  # type: ignore[arg-type]
        plain = TaskObjective(task, state, Model(task.outputs(state), False), None)  # type: ignore[arg-type]
        for one, other in zip(plain(batch), Regularised(plain)(batch), strict=True):
            assert torch.allclose(one.sums, other.sums)
            assert torch.allclose(one.weights, other.weights)


def test_a_share_of_one_is_the_example_itself_and_of_none_its_partner() -> None:
    assert partners(5).tolist() == [1, 0, 3, 2, 4]
    task = Classification()
    examples, state = problem(task)
    batch = Source(examples, Padder(), 8, 8, 0).window("s", 0, 0)[0]  # type: ignore[arg-type]
    plain = TaskObjective(task, state, Model(task.outputs(state), False), None)  # type: ignore[arg-type]
    sums = plain(batch)[0].sums
    own, others = (replace(batch, shares=torch.full_like(sums, share)) for share in (1.0, 0.0))
    assert torch.allclose(Regularised(plain)(own)[0].sums, sums)
    assert torch.allclose(Regularised(plain)(others)[0].sums, sums[partners(len(sums))])


def test_shares_follow_from_the_place_alone() -> None:
    examples, _ = problem(Regression())
    found = [
        torch.cat([one.shares for one in source.window("s", *place) if one.shares is not None])
        for micro, place in ((9, (0, 1)), (2, (0, 1)), (9, (1, 1)), (9, (0, 0)))
        if (source := Source(examples, Padder(), 9, micro, 0, mixup=0.4))  # type: ignore[arg-type]
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[3])


def test_divergences_are_those_of_the_definition() -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.randn(4, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    p, q = one.softmax(1), other.softmax(1)
    wanted = 0.5 * ((p * (p / q).log()).sum(1) + (q * (q / p).log()).sum(1))
    torch.testing.assert_close(between_classes(one, other), wanted)
    p, q = one.sigmoid(), other.sigmoid()
    both = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log() + q * (q / p).log()
    both = both + (1 - q) * ((1 - q) / (1 - p)).log()
    torch.testing.assert_close(between_labels(one, other), 0.5 * both.mean(1))
    torch.testing.assert_close(between_numbers(one[:, :1], other[:, :1]), (one[:, 0] - other[:, 0]) ** 2)
    assert all(bool((each(one, one) == 0).all()) for each in (between_classes, between_labels, between_numbers))


@pytest.mark.parametrize("kind", ["classification", "multi-label", "regression"])
def test_a_fit_with_all_of_it_learns_under_replay_and_repeats(tiny_model: Path, tmp_path: Path, kind: Any) -> None:
    sampling: Any = "rows" if kind == "regression" else "balanced"
    training = Training(
        batch_size=8, micro_batch_size=4, mixup=0.4, r_drop=1.0, dropout=0.2, sampling=sampling, epochs=3
    )
    options: dict[str, Any] = {"kind": kind, "method": REPLAYED, "training": training, "dropout": None}
    fitted, events = drained(*made(tiny_model, **options))
    assert any("replayed from" in note for note in fitted.notes)
    losses = [event.loss for event in events if isinstance(event, Stepped)]
    assert all(math.isfinite(loss) for loss in losses)
    running = made(tiny_model, checkpoints=tmp_path, checkpoint_seconds=0.0, **options)
    stopped = running[0].fit(running[1])
    for event in stopped:
        if isinstance(event, Stepped) and event.step == 5:
            stopped.close()
    again = made(tiny_model, checkpoints=tmp_path, checkpoint_seconds=0.0, **options)
    assert bytes_of(drained(*again)[0]) == bytes_of(fitted)


def test_dropout_is_set_everywhere_but_in_attention_and_the_solved_head_does_not_see_it(tiny_model: Path) -> None:
    stated = [
        m.p for m in TextEncoder().load(tiny_model, outputs=3, seed=0).model.modules() if isinstance(m, nn.Dropout)
    ]
    assert set(stated) == {0.0, 0.1}
    for share in (0.0, 0.4):
        family, training = TextEncoder(), Training(dropout=share, batch_size=8)
        learner, _ = made(tiny_model, method=METHOD, training=training, dropout=None)  # type: ignore[arg-type]
        found = [m.p for m in learner.backbone.model.modules() if isinstance(m, nn.Dropout)]
        assert [share if p else 0.0 for p in stated] == found
        assert drops(learner.backbone.model) == (share > 0)
        assert family.dropout is None


def test_what_does_not_go_together_is_refused(tiny_model: Path) -> None:
    def refusal(match: str, **options: Any) -> None:
        with pytest.raises(ConfigError, match=match):
            made(tiny_model, **options)[0].stages()

    contrast = Contrastive(solve=QUICK)
    refusal("mixes losses", method=contrast, training=Training(mixup=0.2))
    refusal("compares answers", method=contrast, training=Training(r_drop=1.0))
    refusal("pairs of one class", method=contrast, training=Training(sampling="balanced"))
    refusal("a regression has none", kind="regression", method=METHOD, training=Training(sampling="balanced"))
    refusal("drops nothing", method=METHOD, training=Training(r_drop=1.0), dropout=0.0)
    refusal("names a dropout of 0.3", method=METHOD, training=Training(dropout=0.1), dropout=0.3)
    with pytest.raises(ConfigError, match="would part one") as caught:
        Training(mixup=0.2, micro_batch_size=3)
    assert caught.value.where == "training.micro_batch_size"


class Graded(Classification):
    """What another package may add: classes all the same, which are neither compared, balanced nor contrasted."""

    divergence: ClassVar[Any] = None
    balanceable: ClassVar[bool] = False
    contrastable: ClassVar[bool] = False


def test_a_task_says_itself_what_can_be_done_with_its_answers_and_classes(tiny_model: Path) -> None:
    check_task(Graded())
    ways: list[tuple[str, dict[str, Any]]] = [
        ("is not known", {"training": Training(r_drop=1.0, dropout=0.2), "dropout": None}),
        ("equally often", {"training": Training(sampling="balanced")}),
        ("contrasts classes", {"method": Contrastive(solve=QUICK)}),
    ]
    for match, options in ways:
        learner, _ = made(tiny_model, **{"method": METHOD, **options})
        assert learner.stages()[1]
        with pytest.raises(ConfigError, match=match):
            replace(learner, task=Graded()).stages()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("average", 0.98),
        ("dropout", 1.0), ("dropout", -0.1), ("mixup", -1.0), ("r_drop", float("nan")), ("sampling", "some"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_work_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        Training(**{name: value})
    assert caught.value.where == f"training.{name}"


def test_beta_shares_have_the_spread_of_their_parameter() -> None:
    examples, _ = problem(Regression())
    for mixup in (0.2, 5.0):
        source = Source(examples, Padder(), 9, 9, 0, mixup=mixup)  # type: ignore[arg-type]
        shares = [one.shares for epoch in range(60) for one in source.window("s", epoch, 0) if one.shares is not None]
        values = torch.cat(shares).numpy()
        assert values.mean() == pytest.approx(0.5, abs=0.06)
        assert np.var(values) == pytest.approx(0.25 / (2 * mixup + 1), rel=0.25)

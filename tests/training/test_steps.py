"""Law 2: several micro-batches equal one batch. Law 4: padding and bucketing do not move the loss."""

import math
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from whet.data.ragged import Ragged
from whet.data.rows import Columns, Rows
from whet.errors import ConfigError
from whet.methods.full import Full
from whet.methods.method import RateGroup
from whet.tasks.classification import Classification
from whet.tasks.multi_label import MultiLabel
from whet.tasks.regression import Regression
from whet.tasks.task import Batch, Examples, State, Task, Term
from whet.training.batches import Source
from whet.training.loop import Budget, FitState, start_state, sum_of, take_step
from whet.training.precision import Working
from whet.training.schedules import FALLS, Schedule, rate_at
from whet.training.settings import Training

ROWS, WIDTH = 21, 6


class Padder:
    """Pads vectors of numbers; a mask only where something is padded."""

    def collate(self, inputs: dict[str, Ragged]) -> dict[str, Tensor]:
        lengths = inputs["x"].lengths
        batch = torch.zeros(len(lengths), int(lengths.max()), WIDTH, dtype=torch.float64)
        for row, array in enumerate(inputs["x"]):
            batch[row, : len(array)] = torch.from_numpy(array)
        mask = torch.arange(batch.shape[1]) < torch.from_numpy(lengths.astype(np.int64)).unsqueeze(1)
        return {"x": batch, "mask": mask}


class Pools(nn.Module):
    """A float64 network that pools over what is not padding."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, 8, dtype=torch.float64)
        self.outer = nn.Linear(8, outputs, dtype=torch.float64)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        hidden = torch.tanh(self.inner(x)) * mask.unsqueeze(2)
        found: Tensor = self.outer(hidden.sum(1) / mask.sum(1, keepdim=True))
        return found


class Loss:
    """Forward and the task's terms."""

    def __init__(self, model: nn.Module, task: Task, state: State) -> None:
        self.model, self.task, self.state = model, task, state

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return self.task.weights(batch.targets, batch.weights, self.state)

    def __call__(self, batch: Batch) -> list[Term]:
        return self.task.loss(self.model(**batch.inputs), batch.targets, batch.weights, self.state)


def problem(task: Task) -> tuple[Examples, State]:
    """Rows of one to three pieces of different lengths, with lopsided targets."""
    draw = np.random.default_rng(0)
    row = np.repeat(np.arange(ROWS), draw.integers(1, 4, ROWS)).astype(np.int32)
    arrays = [draw.normal(size=(int(draw.integers(1, 9)), WIDTH)) for _ in row]
    values: dict[str, list[Any]] = {
        "classification": draw.choice(["a", "b", "c"], ROWS, p=[0.7, 0.2, 0.1]).tolist(),
        "multi-label": [[n for n in "xyz" if draw.random() < 0.4] for _ in range(ROWS)],
        "regression": draw.normal(50, 9, ROWS).tolist(),
    }
    rows, columns = Rows(pa.table({"t": values[task.kind]}), "rows"), Columns((), ("t",))
    state, _ = task.prepare(rows, columns)
    targets = task.encode_targets(rows, columns, state)
    part = np.concatenate([np.arange(count) for count in np.bincount(row)]).astype(np.int32)
    inputs = {"x": Ragged.pack(arrays)}
    return Examples(inputs, row, part, targets, rows.ids, inputs["x"].lengths), state


def after_an_epoch(task: Task, micro: int, batch: int = 9) -> tuple[list[Tensor], list[float]]:
    """Weights and losses after an epoch whose last window is not full."""
    examples, state = problem(task)
    source = Source(examples, Padder(), batch, micro, 0)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = Pools(task.outputs(state))
    settings = Training(warmup=0.0, schedule="constant", clip=0.5)
    working: Any = Working(model, model)  # type: ignore[arg-type]
    names = tuple(name for name, _ in model.named_parameters())
    steps = start_state(working, (RateGroup(names=names),), 0.05, settings)
    budget = Budget(steps=source.steps_per_epoch, every=1, evaluate=None, settings=settings)
    assert len(examples) % batch not in (0, micro)
    losses = [
        take_step(steps, "s", source, Loss(model, task, state), working, budget, 0).loss
        for _ in range(source.steps_per_epoch)
    ]
    return [parameter.detach().clone() for parameter in model.parameters()], losses


TASKS = [Classification(class_weights="balanced"), Classification(label_smoothing=0.1), MultiLabel(), Regression()]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.kind}-{getattr(task, 'class_weights', '')}")
@pytest.mark.parametrize("micro", [1, 3, 7])
def test_micro_batches_give_the_update_of_one_batch(task: Task, micro: int) -> None:
    whole, losses = after_an_epoch(task, 9)
    parts, others = after_an_epoch(task, micro)
    assert others == pytest.approx(losses, rel=1e-10)
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_a_term_is_divided_by_the_weights_of_the_whole_update() -> None:
    first = Term("a", torch.tensor([2.0, 4.0]), torch.tensor([1.0, 1.0]), coefficient=0.5)
    terms = [first, Term("b", torch.tensor([9.0]), torch.ones(1))]
    totals = {"a": torch.tensor(4.0, dtype=torch.float64), "b": torch.tensor(3.0, dtype=torch.float64)}
    assert float(sum_of(terms, totals)) == pytest.approx(0.5 * 6 / 4 + 9 / 3)


def test_every_row_counts_once_however_many_pieces_it_has() -> None:
    examples, _ = problem(Regression())
    assert np.bincount(examples.row, examples.piece_weights) == pytest.approx(np.ones(ROWS))
    chosen = examples.select(np.array([3, 4, 11]))
    assert np.bincount(chosen.row, chosen.piece_weights) == pytest.approx(np.ones(3))
    assert chosen.targets == pytest.approx(examples.targets[[3, 4, 11]])  # type: ignore[index]
    for place in range(len(chosen)):
        assert chosen.inputs["x"].shapes[place].tolist() in examples.inputs["x"].shapes.tolist()


@pytest.mark.parametrize("task", TASKS[::2], ids=lambda task: task.kind)
def test_padding_and_bucketing_do_not_move_the_loss(task: Task) -> None:
    examples, state = problem(task)
    torch.manual_seed(1)
    loss = Loss(Pools(task.outputs(state)), task, state)

    def mean(batches: list[Batch]) -> float:
        terms = [term for batch in batches for term in loss(batch)]
        return float(sum(t.sums.detach().sum() for t in terms)) / float(sum(t.weights.double().sum() for t in terms))

    def epoch(size: int, number: int) -> float:
        source = Source(examples, Padder(), size, size, 0)  # type: ignore[arg-type]
        return mean([batch for step in range(source.steps_per_epoch) for batch in source.window("s", number, step)])

    alone = epoch(1, 0)
    assert [epoch(size, number) for size in (4, 9, 100) for number in (0, 1)] == pytest.approx([alone] * 6, rel=1e-6)


def test_rates_rise_then_fall_and_never_leave_the_peak() -> None:
    for schedule in get_args(Schedule):
        for warmup in (0.0, 0.2):
            rates = [rate_at(step, 50, schedule, warmup) for step in range(50)]
            warm = round(50 * warmup)
            assert all(0 < rate <= 1 for rate in rates)
            assert rates[:warm] == sorted(rates[:warm])
            assert rates[warm:] == sorted(rates[warm:], reverse=True)
            assert rates[warm] == 1.0
    assert rate_at(0, 10, "constant", 0.0) == 1.0
    stable = [rate_at(step, 100, "warmup-stable-decay", 0.0) for step in range(100)]
    assert sum(rate == 1.0 for rate in stable) == 81
    assert rate_at(0, 100, "one-cycle", 0.3) < 0.05
    assert rate_at(99, 100, "one-cycle", 0.3) < 0.001
    assert set(FALLS) == set(get_args(Schedule))


@pytest.mark.parametrize(
    ("named", "usual", "rows", "passes"),
    [(None, 8, 10_000, 8), (None, 8, 100, 64.0), (3.0, 8, 100, 3.0), (None, 8, 800, 8)],
)
def test_few_rows_get_more_passes_unless_epochs_are_named(
    named: float | None, usual: int, rows: int, passes: float
) -> None:
    method = Full(epochs=usual)
    assert Training(epochs=named, least_steps=200).passes(method, rows) == passes
    assert Training(epochs=named).passes(method, rows) == passes
    assert Training(epochs=named, least_steps=0).passes(method, rows) == (named or usual)


def test_a_state_goes_through_a_checkpoint_unchanged() -> None:
    torch.manual_seed(0)
    model = Pools(2)
    working: Any = Working(model, model)  # type: ignore[arg-type]
    names = tuple(name for name, _ in model.named_parameters())

    def fresh() -> FitState:
        return start_state(working, (RateGroup(names=names),), 0.1, Training())

    state = fresh()
    for gradient in state.gradients().values():
        gradient.fill_(1.0)
    state.optimizer.step()
    state.best = {name: torch.full_like(p, 3.0) for name, p in model.named_parameters()}
    state.lowest = torch.tensor([0.2, 0.05], dtype=torch.float64)
    state.step, state.best_loss, state.decisions = 5, 0.25, [{"stage": "s", "step": 5, "reason": "clock"}]
    state.take_snapshot()
    state.solved, state.uncounted = 7, 2
    kept = {name: tensor.clone() for name, tensor in state.tensors().items()}
    state.release(working)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    again = fresh()
    again.restore(working, kept, state.counters())
    assert again.counters() == state.counters()
    assert (again.solved, again.uncounted) == (7, 2)
    found = again.tensors()
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[name], kept[name]) for name in kept)
    again.return_to_snapshot(working)
    assert (again.solved, again.uncounted) == (0, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0), ("learning_rate", 0.0), ("learning_rate", -1.0), ("learning_rate", 10.0),
        ("head_learning_rate", 0.0), ("batch_size", 0), ("micro_batch_size", 0), ("warmup", 1.0), ("warmup", -0.1),
        ("schedule", "zigzag"), ("weight_decay", 1.0), ("clip", -1.0), ("patience", -1),
        ("evaluations_per_epoch", 0), ("most_seconds", -1.0), ("learning_rate", float("nan")), ("clip", float("nan")),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_work_is_refused_by_name(name: str, value: Any) -> None:
    from whet.errors import ConfigError

    with pytest.raises(ConfigError, match=name) as caught:
        Training(**{name: value})
    assert caught.value.where == f"training.{name}"


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", "x"), ("epochs", "2"), ("epochs", math.inf), ("batch_size", None), ("batch_size", 8.5),
     ("patience", 2.5), ("mixup", True), ("schedule", ["linear"]), ("learning_rate", 10)],
)  # fmt: skip
def test_a_setting_of_another_type_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name} cannot be") as caught:
        Training(**{name: value})
    assert caught.value.where == f"training.{name}"


def test_numbers_of_numpy_are_kept_as_a_plan_file_can_hold_them() -> None:
    given = Training(learning_rate=np.float64(1e-3), batch_size=np.int64(16), epochs=np.float32(2))
    assert [type(one) for one in (given.learning_rate, given.batch_size, given.epochs)] == [float, int, float]
    assert (given.learning_rate, given.batch_size, given.epochs) == (1e-3, 16, 2)

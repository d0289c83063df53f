"""Law 1: training under replay equals training without it, and a model for which it would not is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from learners.make import TOP, bytes_of, drained, made
from whet.learners.descent import lowest_cut
from whet.learners.neural import Neural, TrainingRows
from whet.methods.full import Full
from whet.methods.top_layers import TopLayers
from whet.training.events import Said
from whet.training.settings import Training

ALIKE: dict[str, Any] = {"most_tokens": 1, "training": Training(batch_size=4, micro_batch_size=1), "valid": 0}
"""Every forward pass sees one example, so a cached value was computed in the very shape in which it is used."""


def still_prefix(learner: Neural, depth: int) -> Neural:
    """Without dropout below a cut, where replay runs in evaluation mode."""
    for name in learner.backbone.cuts[depth].below:
        for module in learner.backbone.model.get_submodule(name).modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    return learner


def weights(fit: tuple[Neural, TrainingRows]) -> tuple[dict[str, torch.Tensor], list[str]]:
    fitted, _ = drained(*fit)
    return {name: tensor.clone() for name, tensor in fitted.model.state_dict().items()}, fitted.notes


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_training_under_replay_gives_the_same_bytes_as_without(tiny_model: Path, dropout: float) -> None:
    found = []
    for replay in ("auto", "off"):
        learner, rows = made(tiny_model, dropout=dropout, replay=replay, **ALIKE)
        fitted, _ = drained(still_prefix(learner, 1), rows)
        assert any("replayed from before block 2" in note for note in fitted.notes) == (replay == "auto")
        found.append(bytes_of(fitted))
    assert found[0] == found[1]


def test_the_comparison_of_bytes_would_see_other_dropout(tiny_model: Path) -> None:
    found = []
    for dropout in (0.3, 0.2):
        learner, rows = made(tiny_model, dropout=dropout, **ALIKE)
        found.append(bytes_of(drained(still_prefix(learner, 1), rows)[0]))
    assert found[0] != found[1]


@pytest.mark.parametrize("method", [TOP, TopLayers(1, learning_rate=3e-3, epochs=2, solve=TOP.solve)])
def test_in_batches_of_many_lengths_replay_is_near(tiny_model: Path, method: Any) -> None:
    replayed, notes = weights(made(tiny_model, method=method, valid=0))
    plain, _ = weights(made(tiny_model, method=method, valid=0, replay="off"))
    assert any("verified equal bit by bit" in note for note in notes)
    for name, tensor in plain.items():
        # Adam turns a gradient of rounding noise (a key's bias has no other) into a step of full size
        if not name.endswith("key.bias"):
            torch.testing.assert_close(replayed[name], tensor, rtol=1e-3, atol=1e-4)


def test_dropout_below_the_cut_is_off_and_replay_holds(tiny_model: Path) -> None:
    fitted, _ = drained(*made(tiny_model, dropout=0.3))
    assert any("verified equal bit by bit" in note for note in fitted.notes)


@pytest.mark.parametrize("embeddings", [True, False])
def test_where_every_block_trains_there_is_nothing_to_gain_by_replay(embeddings: bool, tiny_model: Path) -> None:
    fitted, _ = drained(*made(tiny_model, method=Full(embeddings=embeddings, epochs=1, solve=TOP.solve)))
    assert not any("replayed" in note for note in fitted.notes)


def test_the_cut_lies_right_below_what_trains(tiny_model: Path) -> None:
    learner, _ = made(tiny_model)
    backbone = learner.backbone
    for depth in range(1, 4):
        name = f"{backbone.blocks[depth - 1]}.output.dense.weight"
        cut = lowest_cut(backbone, (name, "head.weight"))
        assert cut is backbone.cuts[depth - 1]
    assert lowest_cut(backbone, ("head.weight",)) is backbone.cuts[-1]
    assert lowest_cut(backbone, ("body.encoder.embeddings.LayerNorm.weight",)) is None


class Changed(nn.Module):
    """A block with something done to what it returns."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        found = self.block(*args, **kwargs)
        return (self.change(found[0]), *found[1:]) if isinstance(found, tuple) else self.change(found)

    def change(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden


class MixesRows(Changed):
    def change(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + hidden.mean(dim=(0, 1), keepdim=True)


class CountsCalls(Changed):
    def __init__(self, block: nn.Module) -> None:
        super().__init__(block)
        self.register_buffer("calls", torch.zeros(()))

    def change(self, hidden: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return hidden


class Remembers(Changed):
    """Keeps something on the side that a later block looks up."""

    kept: torch.Tensor

    def change(self, hidden: torch.Tensor) -> torch.Tensor:
        object.__setattr__(self, "kept", hidden.detach().mean(dim=(1, 2), keepdim=True))
        return hidden


class LooksBack(Changed):
    def __init__(self, block: nn.Module, before: Remembers) -> None:
        super().__init__(block)
        object.__setattr__(self, "before", before)

    def change(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.before.kept


def replace(learner: Neural, place: int, module: nn.Module) -> None:
    parent, _, leaf = learner.backbone.blocks[place].rpartition(".")
    setattr(learner.backbone.model.get_submodule(parent), leaf, module)


def block(learner: Neural, place: int) -> nn.Module:
    return learner.backbone.model.get_submodule(learner.backbone.blocks[place])


def break_rows(learner: Neural) -> None:
    replace(learner, 0, MixesRows(block(learner, 0)))


def break_buffer(learner: Neural) -> None:
    replace(learner, 0, CountsCalls(block(learner, 0)))


def break_side_channel(learner: Neural) -> None:
    replace(learner, 0, Remembers(block(learner, 0)))
    replace(learner, 2, LooksBack(block(learner, 2), block(learner, 0)))  # type: ignore[arg-type]


def break_ties(learner: Neural) -> None:
    model = learner.backbone.model
    table = model.get_submodule("body.encoder.embeddings.word_embeddings").weight
    model.head.weight = nn.Parameter(table.detach()[: model.head.out_features])


def break_structure(learner: Neural) -> None:
    """The block above the cut takes two things from the block below it, which the stand-in cannot know."""

    class Doubles(Changed):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            found = super().forward(*args, **kwargs)
            return found, found

    class TakesTwo(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.block = block

        def forward(self, pair: Any, *args: Any, **kwargs: Any) -> Any:
            first, second = pair
            if first.shape != second.shape:
                raise ValueError("two of one shape are needed")
            return self.block(0.5 * (first + second), *args, **kwargs)

    replace(learner, 0, Doubles(block(learner, 0)))
    replace(learner, 1, TakesTwo(block(learner, 1)))


BROKEN = {
    break_rows: "differ from fresh ones",
    break_buffer: "calls is frozen but changes",
    break_side_channel: "differs from the plain model's",
    break_ties: "shared between what trains and what is frozen",
    break_structure: "cannot be",
}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda damage: damage.__name__)
def test_a_model_that_replay_would_change_is_trained_without_it(tiny_model: Path, damage: Any) -> None:
    learner, rows = made(tiny_model, method=TOP, valid=0)
    damage(learner)
    fitted, events = drained(learner, rows)
    said = [event.message for event in events if isinstance(event, Said) and "Replay" in event.message]
    assert len(said) == 1
    assert said[0].startswith("Replay is off")
    assert BROKEN[damage] in said[0]
    assert fitted.steps > 0
    reference, others = made(tiny_model, method=TOP, valid=0, replay="off")
    damage(reference)
    plain, _ = drained(reference, others)
    for name, tensor in plain.model.state_dict().items():
        if not name.endswith("calls"):
            assert torch.equal(tensor, fitted.model.state_dict()[name]), name


def test_a_cache_over_its_limit_means_no_replay(tiny_model: Path) -> None:
    fitted, events = drained(*made(tiny_model, most_cache_bytes=10))
    assert any(isinstance(event, Said) and "its cache would take" in event.message for event in events)
    assert fitted.steps > 0


def test_a_second_fit_from_the_cache_gives_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    found = [bytes_of(drained(*made(tiny_model, cache=tmp_path / "cache"))[0]) for _ in range(2)]
    assert found[0] == found[1] == bytes_of(drained(*made(tiny_model))[0])


def test_verifying_leaves_weights_modes_and_buffers_as_they_were(tiny_model: Path) -> None:
    from whet.learners.fitted import drain
    from whet.training.objective import ReplaySource, TaskLoss
    from whet.training.replay import activations, verify

    learner, rows = made(tiny_model)
    model, cut = learner.backbone.model, learner.backbone.cuts[1]
    replace(learner, 2, CountsCalls(block(learner, 2)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cached = drain(activations(model, cut, rows.train, learner.processor, None, stage="x", most_tokens=64))
    source = ReplaySource(rows.train, learner.processor, 8, 8, 0, cached=[cached])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(name.startswith(prefix) for prefix in cut.below))
    modes = [module.training for module in model.modules()]
    verdict = verify(model, cut, source.batch(np.arange(8)), TaskLoss(learner.task, learner.state), seed=0)
    assert verdict.holds, verdict.reason
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())

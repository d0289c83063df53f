"""Law 5: a fresh method changes nothing, and afterwards exactly what it names has moved."""

import copy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import peft
import pytest
import torch
from torch import nn

from learners.make import QUICK, drained, made
from whet.backbones.backbone import Backbone
from whet.backbones.text_encoder import TextEncoder
from whet.catalog import METHODS, find
from whet.errors import ConfigError, ModelError
from whet.methods.adapter import Adapter
from whet.methods.full import Full
from whet.methods.gradual import Gradual
from whet.methods.lora import LoRA
from whet.methods.method import Descend, RateGroup, Solve, Stage, layerwise, within
from whet.methods.probe import Probe
from whet.methods.reinit import Reinit
from whet.methods.top_layers import TopLayers
from whet.testing import check_method
from whet.training.loop import start_state
from whet.training.precision import Working
from whet.training.settings import Training


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_catalog_keeps_the_contract(name: str) -> None:
    check_method(find("method", name)())


@pytest.mark.parametrize(
    "method",
    [
        TopLayers(1),
        TopLayers(4, decay=0.5),
        Full(embeddings=False),
        Full(decay=1.0),
        Gradual(groups=1, thaw=0.5),
        Gradual(groups=4, thaw=0.1),
        Reinit(count=3, seed=5),
        LoRA(rank=2, layers=("attention",)),
        LoRA(rank=2, layers=("query", "output.dense")),
        LoRA(directions=True),
        LoRA(rank_stabilized=True, up_rate=8.0),
        LoRA(start="pissa"),
        LoRA(start="olora", rank=4),
        Adapter.of(peft.LoHaConfig(r=4)),
        Adapter.of(peft.IA3Config(target_modules=["query", "value"], feedforward_modules=[])),
        Adapter.of(peft.OFTConfig(oft_block_size=8)),
    ],
    ids=repr,
)
def test_other_settings_keep_it_too(method: Any) -> None:
    check_method(method)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (LoRA(layers=("qeury",)), "'query'"),
        (Adapter(kind="LORRA"), "LORA"),
        (Adapter(kind="LORA", settings={"rnk": 3}), "peft refuses"),
        (Adapter(kind="PREFIX_TUNING"), "peft"),
        (Reinit(count=3), "at most 2"),
        (Gradual(groups=4), "at most 3"),
    ],
    ids=repr,
)
def test_what_a_model_cannot_take_is_refused_with_what_it_can(method: Any, words: str, tiny_model: Path) -> None:
    backbone = TextEncoder().load(tiny_model, outputs=3, seed=0)
    with pytest.raises(ConfigError) as caught:
        method.stages(method.prepare(backbone))
    assert words in str(caught.value)


def test_a_merge_that_changes_answers_is_refused(tiny_model: Path) -> None:
    class MergesBadly(LoRA):
        def finish(self, backbone: Backbone) -> Backbone:
            finished = super().finish(backbone)
            with torch.no_grad():
                finished.model.get_submodule(finished.blocks[0]).get_parameter("output.dense.weight").mul_(2)
            return finished

    learner, rows = made(tiny_model, method=MergesBadly(epochs=1, solve=QUICK))
    with pytest.raises(ModelError, match="Merging"):
        drained(learner, rows)


def test_a_pull_towards_the_start_ends_there_and_is_no_weight_decay(backbone: Backbone) -> None:
    working = Working.of(copy.deepcopy(backbone.model), "float32", torch.device("cpu"))
    name = f"{backbone.blocks[0]}.output.dense.weight"
    begin = dict(working.masters.named_parameters())[name].detach().clone()
    state = start_state(working, (RateGroup(names=(name,), pull=4.0),), 0.5, Training(weight_decay=0.5))
    (flat,) = state.groups
    assert [group["weight_decay"] for group in state.optimizer.param_groups] == [0.0]
    with torch.no_grad():
        flat.whole.add_(1.0)
        flat.pull_back(0.125)  # half of the way
        assert torch.allclose(flat.whole.view_as(begin), begin + 0.5)
        flat.pull_back(0.5)
    assert torch.equal(flat.whole.detach().view_as(begin), begin)


@dataclass(frozen=True)
class BiasOnly:
    """As the style guide shows it: one file, nothing inserted."""

    learning_rate: float = 1e-3
    epochs: int = 1
    stops: ClassVar[bool] = True
    least_steps: ClassVar[int] = 200
    starts_equal: ClassVar[bool] = True

    def prepare(self, backbone: Backbone) -> Backbone:
        return backbone

    def stages(self, backbone: Backbone) -> list[Stage]:
        reached = set(dict(backbone.model.named_parameters())) - set(backbone.unused) - set(backbone.created)
        return [Stage(name="biases", fit=Descend(), groups=(RateGroup(names=tuple(sorted(self.chosen(reached)))),))]

    def chosen(self, reached: set[str]) -> set[str]:
        return {name for name in reached if name.endswith("bias")}

    def finish(self, backbone: Backbone) -> Backbone:
        return backbone


def test_a_method_of_ones_own_passes() -> None:
    check_method(BiasOnly())


class NamesUnknown(BiasOnly):
    def chosen(self, reached: set[str]) -> set[str]:
        return {"body.no.such.bias"}


class NamesUnreached(BiasOnly):
    def chosen(self, reached: set[str]) -> set[str]:
        return {"body.encoder.pooler.dense.bias"}


class NamesTheHead(BiasOnly):
    def chosen(self, reached: set[str]) -> set[str]:
        return {"head.bias"}


class StartsChanged(BiasOnly):
    def prepare(self, backbone: Backbone) -> Backbone:
        with torch.no_grad():
            backbone.model.get_submodule(backbone.blocks[0]).get_parameter("output.dense.bias").add_(0.1)
        return backbone


class MovesOnTheSide(BiasOnly):
    """Inserts a module that changes a buffer while training."""

    def prepare(self, backbone: Backbone) -> Backbone:
        class Counts(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("calls", torch.zeros(()))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                if self.training:
                    self.calls += 1
                return x

        block: Any = backbone.model.get_submodule(backbone.blocks[0])
        block.output.dense = nn.Sequential(block.output.dense, Counts())
        return replace(backbone)


class StandsStill(BiasOnly):
    learning_rate = 0.0


class FinishesBadly(BiasOnly):
    def finish(self, backbone: Backbone) -> Backbone:
        with torch.no_grad():
            backbone.model.head.weight.mul_(2)
        return backbone


class SolvesAndMoves(BiasOnly):
    def stages(self, backbone: Backbone) -> list[Stage]:
        return [replace(stage, fit=Solve()) for stage in super().stages(backbone)]


class NamesTwice(BiasOnly):
    def stages(self, backbone: Backbone) -> list[Stage]:
        return super().stages(backbone) * 2


class MissesTheTop(BiasOnly):
    """Says that it trains the top blocks alone, and moves every one."""

    @classmethod
    def for_top(cls, blocks: int) -> dict[str, int] | None:
        return {} if blocks == 2 else None


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (NamesUnknown(), "names parameters that do not exist"),
        (NamesUnreached(), "did not move in 3 steps"),
        (NamesTheHead(), "names new parameters"),
        (StartsChanged(), "changes the model's answers"),
        (MovesOnTheSide(), "moved 1 tensors that it does not name"),
        (StandsStill(learning_rate=0.0), "learning_rate above 0"),
        (FinishesBadly(), "Finish"),
        (SolvesAndMoves(), "solves the head, so it cannot move"),
        (NamesTwice(), "different names"),
        (MissesTheTop(), "other blocks move"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_method_that_breaks_the_contract_is_told_why(method: Any, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_method(method)


@pytest.fixture(scope="module")
def backbone(tiny_model: Path) -> Backbone:
    return TextEncoder().load(tiny_model, outputs=3, seed=0)


def test_rates_fall_from_block_to_block(backbone: Backbone) -> None:
    groups = layerwise(backbone, -1, 0.5)
    scale = {name: group.scale for group in groups for name in group.names}
    rates = [scale[f"{block}.output.dense.weight"] for block in backbone.blocks]
    assert rates == [0.25, 0.5, 1.0]
    assert scale["body.encoder.embeddings.word_embeddings.weight"] == 0.125
    named = [name for group in groups for name in group.names]
    reached = {name for name, _ in backbone.model.named_parameters()} - set(backbone.unused) - set(backbone.created)
    assert sorted(named) == sorted(reached)


def test_top_layers_names_its_blocks_and_nothing_below(backbone: Backbone) -> None:
    probe, top = TopLayers(2).stages(backbone)
    assert isinstance(probe.fit, Solve)
    named = [name for group in top.groups for name in group.names]
    assert all(within(name, backbone.blocks[1:]) for name in named)
    assert {name.split(".")[4] for name in named} == {"1", "2"}
    frozen = Full(embeddings=False).stages(backbone)[1]
    assert not any("embeddings" in name for group in frozen.groups for name in group.names)


def test_a_prefix_ends_at_a_dot() -> None:
    assert within("layer.1.weight", ("layer.1",))
    assert not within("layer.10.weight", ("layer.1",))


def test_more_blocks_than_there_are_is_refused_with_their_number(backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match="has 3 blocks, so 4") as caught:
        TopLayers(4).stages(backbone)
    assert caught.value.where == "method.count"
    with pytest.raises(ConfigError, match="At least one block"):
        TopLayers(0)


def test_a_probe_moves_nothing(backbone: Backbone) -> None:
    assert [(stage.groups, type(stage.fit)) for stage in Probe().stages(backbone)] == [((), Solve)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Solve(penalties=()),
        lambda: Solve(penalties=(0.0,)),
        lambda: Solve(penalties=(0.1, 1.0)),
        lambda: Solve(folds=1),
        lambda: TopLayers(decay=0.0),
        lambda: TopLayers(decay=1.5),
        lambda: TopLayers(learning_rate=0.0),
        lambda: TopLayers(epochs=0),
        lambda: Full(decay=-1.0),
        lambda: Full(learning_rate=float("nan")),
        lambda: Full(epochs=0),
    ],
)
def test_a_setting_that_cannot_work_is_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize("given", ["x", [1], True, None, float("inf"), float("nan")], ids=repr)
@pytest.mark.parametrize("name", METHODS)
def test_a_number_of_another_type_is_refused_by_name(name: str, given: Any) -> None:
    method = find("method", name)
    numbers = {one.name: one.type for one in fields(method) if one.type in (int, float, int | None)}
    assert numbers or name == "probe"
    for setting, kind in numbers.items():
        if given is None and kind == int | None:
            continue
        with pytest.raises(ConfigError, match=f"{setting} cannot be") as caught:
            method(**{setting: given})
        assert caught.value.where == f"method.{setting}"


@pytest.mark.parametrize("given", [{"folds": "x"}, {"folds": 2.5}, {"penalties": "x"}, {"penalties": ("x",)},
                                   {"penalties": 0.1}])  # fmt: skip
def test_a_penalty_that_is_no_number_is_refused_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot be") as caught:
        Solve(**given)
    assert caught.value.where == f"method.solve.{next(iter(given))}"


def test_numbers_of_numpy_are_those_of_a_plan_file() -> None:
    method = LoRA(rank=np.int64(4), alpha=np.float32(8), solve=Solve(penalties=[np.float64(0.5), 0.1]))
    assert (repr(method.rank), repr(method.alpha), repr(method.solve.penalties)) == ("4", "8.0", "(0.5, 0.1)")

"""Do the optimizers keep their contract, and do what their papers say?"""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from learners.make import needs
from whet.backbones.text_encoder import TextEncoder
from whet.catalog import TABLES, find
from whet.errors import ConfigError, MissingPackageError
from whet.learners.descent import undecayed
from whet.methods.method import RateGroup
from whet.plan import build, plain
from whet.testing import check_optimizer, tiny_steps
from whet.training.averages.soup import Soup
from whet.training.loop import FitState, answering, start_state
from whet.training.optimizer import Stepper
from whet.training.optimizers.muon import Muon
from whet.training.optimizers.schedule_free import ScheduleFree
from whet.training.optimizers.sgd import SGD
from whet.training.precision import Working
from whet.training.settings import Training

NAMES = list(TABLES["optimizer"])


def state_of(matrix: torch.Tensor, name: str, rate: float = 1.0, **settings: Any) -> tuple[FitState, Working]:
    """The state of one matrix with a gradient of ones."""
    model: Any = torch.nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
    with torch.no_grad():
        model.weight.copy_(matrix)
    working = Working(model, model)
    pull = settings.pop("pull", 0.0)
    group = RateGroup(names=("weight",), pull=pull)
    state = start_state(working, (group,), rate, Training(optimizer=name, **settings))
    state.gradients()["weight"].fill_(1.0)
    return state, working


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_keeps_its_contract(name: str) -> None:
    needs(name)
    check_optimizer(find("optimizer", name)())


def test_one_that_forgets_is_found_out() -> None:
    class Forgets(SGD):
        def stepper(self, shares: Any) -> Stepper:
            made = super().stepper(shares)
            made.tensors = dict  # type: ignore[method-assign]
            return made

    with pytest.raises(AssertionError, match="differs from one without a stop"):
        check_optimizer(Forgets())


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_finds_the_bottom_of_a_bowl(name: str) -> None:
    needs(name)
    torch.manual_seed(0)
    bottom = 1 + 0.5 * torch.randn(4, 4)
    state, _ = state_of(torch.ones(4, 4), name, rate=0.03, weight_decay=0.0)
    for _ in range(300):
        state.gradients()["weight"].copy_(2 * (state.masters()["weight"] - bottom))
        state.optimizer.step(1.0)
    state.optimizer.finish()
    assert float((state.masters()["weight"] - bottom).norm()) < 0.3 * float((1 - bottom).norm())


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_is_as_strong_under_each_and_apart_from_the_gradient(name: str) -> None:
    """At a rate of 0.01 in AdamW's unit a decay of 0.1 takes a thousandth of the weights, whatever the gradient."""
    needs(name)
    moved = {}
    for decay in (0.0, 0.1):
        rate = 0.01 * find("optimizer", name)().usual_rate
        state, _ = state_of(torch.full((4, 4), 3.0), name, rate, weight_decay=decay, warmup=0.0)
        state.optimizer.step(1.0)
        state.optimizer.finish()
        moved[decay] = state.masters()["weight"].clone()
    torch.testing.assert_close(moved[0.0] - moved[0.1], torch.full((4, 4), 0.003), rtol=1e-2, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_pull_towards_the_start_shortens_the_way(name: str) -> None:
    needs(name)
    rate, ends = 0.01 * find("optimizer", name)().usual_rate, {}
    for pull in (0.0, 20.0):
        state, _ = state_of(torch.full((4, 4), 3.0), name, rate, pull=pull)
        for _ in range(20):
            state.gradients()["weight"].fill_(1.0)
            state.optimizer.step(1.0)
        state.optimizer.finish()
        ends[pull] = float((3.0 - state.masters()["weight"]).mean())
    assert 0 < ends[20.0] < 0.7 * ends[0.0]


def test_muon_takes_matrices_of_hidden_layers_and_adamw_the_rest(tiny_model: Path) -> None:
    state, working, step = tiny_steps(Muon(), tiny_model)
    step()
    backbone = TextEncoder().load(tiny_model, outputs=3, seed=0)
    every = dict(working.masters.named_parameters())
    momenta = {key.partition("/")[2] for key in state.optimizer.tensors() if key.startswith("momentum_buffer/")}
    tables = {name for name in every if "embeddings.weight" in name}
    assert momenta == {n for n, p in every.items() if p.dim() == 2 and n in state.names} - tables - undecayed(backbone)
    assert momenta
    assert len(tables) == 3
    assert {key.partition("/")[2] for key in state.optimizer.tensors()} >= tables - set(backbone.unused)


def test_an_update_of_muon_is_orthogonal_and_of_the_size_of_adamws() -> None:
    torch.manual_seed(0)
    begin = torch.randn(16, 64)
    state, _ = state_of(begin, "muon", rate=0.1, weight_decay=0.0)
    state.gradients()["weight"].copy_(torch.randn(16, 64))
    state.optimizer.step(1.0)
    update = begin - state.masters()["weight"]
    values = torch.linalg.svdvals(update)
    assert float(values.max() / values.min()) < 2.5
    assert float(update.pow(2).mean().sqrt()) == pytest.approx(0.2 * 0.1, rel=0.25)


def test_muon_without_matrices_is_adamw(tiny_model: Path) -> None:
    ends = []
    for name in ("adamw", "muon"):
        backbone = TextEncoder(dropout=0.0).load(tiny_model, outputs=3, seed=0)
        working = Working.of(backbone.model, "float32", torch.device("cpu"))
        names = tuple(n for n, p in backbone.model.named_parameters() if p.dim() == 1)
        state = start_state(working, (RateGroup(names=names),), 0.01, Training(optimizer=name))
        for gradient in state.gradients().values():
            gradient.fill_(0.5)
        state.optimizer.step(1.0)
        ends.append(torch.cat([tensor.reshape(-1) for tensor in state.masters().values()]))
    assert torch.equal(*ends)


def test_adafactor_remembers_a_row_and_a_column_of_a_matrix() -> None:
    state, _ = state_of(torch.ones(6, 10), "adafactor")
    state.optimizer.step(1.0)
    shapes = {key.partition("/")[0]: tuple(one.shape) for key, one in state.optimizer.tensors().items()}
    assert shapes == {"step": (), "row_var": (6, 1), "col_var": (1, 10)}
    assert state.optimizer.numbers() == 17


def test_what_answers_under_schedule_free_is_the_average_and_asking_for_it_moves_nothing() -> None:
    needs("schedule-free")
    state, working = state_of(torch.zeros(2, 2), "schedule-free", rate=0.1, weight_decay=0.0)
    ways = []
    for _ in range(4):
        state.gradients()["weight"].fill_(1.0)
        state.optimizer.step(1.0)
        ways.append(state.optimizer.tensors()["z/weight"].clone())
    stepping = state.masters()["weight"].clone()
    with answering(state, working):
        torch.testing.assert_close(state.masters()["weight"], torch.stack(ways).mean(0))
    assert torch.equal(state.masters()["weight"], stepping)
    state.optimizer.finish()
    torch.testing.assert_close(state.masters()["weight"], torch.stack(ways).mean(0))


def test_schedule_free_has_no_schedule_but_a_warm_up() -> None:
    assert Training(optimizer="schedule-free", warmup=0.0).rate_factor(90, 100) == 1.0
    assert Training(optimizer="schedule-free", warmup=0.2).rate_factor(0, 100) < 0.1
    assert Training(optimizer="schedule-free", schedule="constant").schedule == "constant"
    with pytest.raises(ConfigError, match="cannot follow the schedule 'cosine'") as caught:
        Training(optimizer=ScheduleFree(), schedule="cosine")
    assert caught.value.where == "training.schedule"
    assert Training(optimizer="sgd", warmup=0.0).rate_factor(50, 100) == pytest.approx(0.5)


@pytest.mark.skipif(importlib.util.find_spec("schedulefree") is not None, reason="the package is installed")
def test_a_package_that_is_missing_is_named_with_the_line_to_type() -> None:
    with pytest.raises(MissingPackageError, match="schedulefree") as caught:
        state_of(torch.ones(2, 2), "schedule-free")
    assert "whet[schedule-free]" in caught.value.fix


def test_rates_of_methods_are_in_adamws_unit_and_named_ones_in_their_own() -> None:
    assert Training().rate(2e-4) == 2e-4
    assert Training(optimizer="sgd").rate(2e-4) == pytest.approx(2e-4 * SGD.usual_rate)
    assert Training(optimizer="sgd", learning_rate=0.3).rate(2e-4) == 0.3


@pytest.mark.parametrize("name", NAMES)
def test_settings_of_an_optimizer_survive_a_plan_file(name: str) -> None:
    written = plain(Training(optimizer=name, batch_size=4))
    assert written["optimizer"]["name"] == name
    assert build(Training, written, "training") == Training(optimizer=name, batch_size=4)
    other = plain(Training(optimizer=SGD(momentum=0.5, nesterov=False)))
    assert build(Training, other, "training").optimizer == SGD(momentum=0.5, nesterov=False)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("adam", "no optimizer named 'adam'"), ({"momentum": 0.5}, "has no name"), (7, "optimizer cannot be 7"),
        (None, "optimizer cannot be None"), ({"name": "sgd", "momentum": 1.5}, "momentum cannot be 1.5"),
        ({"name": "sgd", "moment": 0.5}, "no setting 'moment'"), ({"name": "adamw", "momentum": 0.5}, "momentum"),
        ({"name": "muon", "momentum": -0.1}, "momentum"), ({"name": "schedule-free", "momentum": 0.0}, "momentum"),
    ],
)  # fmt: skip
def test_an_optimizer_that_cannot_work_is_refused(value: Any, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        build(Training, {"optimizer": value}, "training")


@pytest.mark.parametrize("make", [SGD, Muon, ScheduleFree])
def test_a_momentum_that_is_no_number_is_refused_by_name(make: Any) -> None:
    with pytest.raises(ConfigError, match="momentum cannot be 'x'") as caught:
        make(momentum="x")
    assert caught.value.where == "training.optimizer.momentum"


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_an_average_of_an_average_is_refused(average: str) -> None:
    with pytest.raises(ConfigError, match="would average an average"):
        Training(optimizer="schedule-free", average=average)
    assert Training(optimizer="schedule-free", average="soup").average == Soup()

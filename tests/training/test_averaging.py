"""Each average equals its formula, chooses by validation loss where it says so, and leaves alone what is frozen."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from learners.make import QUICK, drained, made
from whet import catalog
from whet.errors import ConfigError
from whet.methods.contrastive import Contrastive
from whet.methods.full import Full
from whet.methods.method import Method
from whet.methods.top_layers import TopLayers
from whet.plan import build
from whet.testing import check_average
from whet.training.average import Carried, Ended, NoAverage, Over, between
from whet.training.averages.ema import EMA
from whet.training.averages.soup import INGREDIENTS, Soup
from whet.training.averages.swa import SWA
from whet.training.averages.wise_ft import GRID, WiseFT
from whet.training.events import Evaluated, Said, Stepped
from whet.training.settings import Training

SETTINGS = Training(batch_size=8, patience=0, schedule="constant", warmup=0.0, epochs=3)
METHOD = TopLayers(1, learning_rate=3e-3, solve=QUICK)
ROWS = 40
"""With which the steps lower the validation loss."""
DRAW = torch.Generator().manual_seed(0)


def weights() -> list[Tensor]:
    """Two groups of flat float64 masters."""
    return [torch.randn(size, generator=DRAW, dtype=torch.float64) for size in (5, 3)]


def walked(average: NoAverage, steps: int) -> tuple[list[list[Tensor]], Carried]:
    """The start, the weights after every update, and what the average carries then."""
    path = [weights() for _ in range(steps + 1)]
    carried = average.begin(path[0])
    for step in range(1, steps + 1):
        average.stepped(carried, path[step], step, steps)
    return path, carried


@pytest.mark.parametrize(("steps", "decay"), [(1, 0.98), (30, 0.98), (30, 0.5), (600, 0.98)])
def test_a_moving_average_is_the_weighted_sum_of_every_update(steps: int, decay: float) -> None:
    path, carried = walked(EMA(decay=decay), steps)
    decays = [min(decay, (1 + step) / (10 + step)) for step in range(1, steps + 1)]
    shares = [math.prod(decays)] + [(1 - one) * math.prod(decays[n + 1 :]) for n, one in enumerate(decays)]
    assert sum(shares) == pytest.approx(1.0)
    for group, found in enumerate(carried.mean):
        wanted = sum(share * moment[group] for share, moment in zip(shares, path, strict=True))
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("steps", "share", "last"), [(40, 0.25, 10), (7, 0.5, 4), (3, 0.01, 1), (5, 1.0, 5)])
def test_swa_is_the_mean_of_the_last_updates(steps: int, share: float, last: int) -> None:
    path, carried = walked(SWA(share=share), steps)
    for group, found in enumerate(carried.mean):
        wanted = torch.stack([moment[group] for moment in path[-last:]]).mean(0)
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", catalog.members("average"))
def test_every_average_keeps_the_contract(name: str) -> None:
    check_average(catalog.find("average", name)())


def test_an_average_that_moves_what_steps_or_forgets_what_it_carried_is_found() -> None:
    class Pulling(NoAverage):
        def stepped(self, carried: Carried, masters: list[Tensor], step: int, steps: int) -> None:
            masters[0].mul_(0.5)

    class Hidden(NoAverage):
        def begin(self, masters: list[Tensor]) -> Carried:
            self.__dict__["seen"] = 0
            return Carried()

        def stepped(self, carried: Carried, masters: list[Tensor], step: int, steps: int) -> None:
            self.__dict__["seen"] += 1

        def end(self, carried: Carried, over: Over) -> Ended:
            return Ended([one * self.__dict__["seen"] for one in over.tuned])

    for average, words in ((Pulling(), "must not change"), (Hidden(), "must end as")):
        with pytest.raises(AssertionError, match=words):
            check_average(average)


@pytest.mark.parametrize(
    ("value", "what"),
    [("median", "median"), ({"name": "ema", "decay": 1.0}, "decay"), ({"name": "swa", "share": 0.0}, "share"),
     ({"name": "swa", "share": 1.5}, "share"), ({"name": "soup", "decay": 0.5}, "decay")],
)  # fmt: skip
def test_an_average_that_cannot_work_is_refused(value: Any, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        build(Training, {"average": value}, "training")


@pytest.mark.parametrize(("make", "name"), [(EMA, "decay"), (SWA, "share")])
def test_a_share_that_is_no_number_is_refused_by_name(make: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} cannot be 'x'") as caught:
        make(**{name: "x"})
    assert caught.value.where == f"training.average.{name}"


def over(measure: Callable[[list[Tensor]], float], tuned: list[Tensor] | None = None) -> Over:
    """A stage of twelve steps that is over, the last of which is the best."""
    return Over(tuned or [], 12, 12, measure)


def bowl(centre: list[Tensor]) -> Callable[[list[Tensor]], float]:
    """A convex validation loss, lowest at ``centre``."""
    return lambda found: sum(float((one - other).square().sum()) for one, other in zip(found, centre, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_a_soup_is_never_worse_than_its_best_ingredient_and_is_the_mean_of_what_stayed(seed: int) -> None:
    DRAW.manual_seed(seed)
    soup, carried, loss = Soup(), Carried(), bowl(weights())
    for step in range(12):
        moment = weights()
        soup.measured(carried, moment, step, loss(moment))
    losses = [one.loss for one in carried.ingredients]
    assert len(losses) == INGREDIENTS
    assert losses == sorted(losses)
    measured: list[float] = []

    def measure(found: list[Tensor]) -> float:
        measured.append(loss(found))
        return measured[-1]

    ended = soup.end(carried, over(measure))
    assert ended.weights is not None
    assert loss(ended.weights) == min([losses[0], *measured])
    assert len(measured) == INGREDIENTS - 1
    kept = [carried.ingredients[0].weights]
    for one in carried.ingredients[1:]:  # the recipe, plainly
        tried = [torch.stack(group).mean(0) for group in zip(*kept, one.weights, strict=True)]
        before = [torch.stack(group).mean(0) for group in zip(*kept, strict=True)]
        kept += [one.weights] if loss(tried) <= loss(before) else []
    for group, found in zip(zip(*kept, strict=True), ended.weights, strict=True):
        torch.testing.assert_close(found, torch.stack(group).mean(0), rtol=1e-10, atol=1e-12)


def test_a_soup_leaves_out_what_is_no_number_and_is_what_it_was_after_a_checkpoint() -> None:
    soup, carried = Soup(), Carried()
    for step, loss in enumerate([0.9, 0.5, float("nan"), 0.4, 0.45]):
        soup.measured(carried, weights(), step, loss)
    soup.measured(carried, weights(), 3, 0.41)
    assert [(one.step, one.loss) for one in carried.ingredients] == [(3, 0.41), (4, 0.45), (1, 0.5), (0, 0.9)]
    again = Carried()
    again.choose(carried.chosen(), torch.device("cpu"))
    assert [(one.step, one.loss) for one in again.ingredients] == [(3, 0.41), (4, 0.45), (1, 0.5), (0, 0.9)]
    alone = soup.end(carried, over(lambda _: 9.9))
    assert alone.weights is carried.ingredients[0].weights
    assert not alone.started
    assert soup.end(Carried(), over(lambda _: 0.0)).weights is None


def test_wise_ft_takes_the_lowest_loss_between_start_and_tuned() -> None:
    start, tuned = weights(), weights()
    wise = WiseFT()
    for weight in (0.0, 0.3, 1.0):
        ended = wise.end(wise.begin(start), over(bowl(between(start, tuned, weight)), tuned))
        assert ended.weights is not None
        for one, begun, other in zip(ended.weights, start, tuned, strict=True):
            torch.testing.assert_close(one, begun + weight * (other - begun), rtol=1e-12, atol=1e-12)
        assert ended.started == (weight == 0)
    assert all(map(torch.equal, between(start, tuned, 0.0), start))
    assert all(map(torch.equal, between(start, tuned, 1.0), tuned))
    equal = wise.end(wise.begin(start), over(lambda _: 0.5, tuned)).weights or []
    assert all(map(torch.equal, equal, tuned))
    assert {0.0, 1.0} <= set(GRID)


def test_swa_says_where_a_moment_before_the_mean_is_kept(tiny_model: Path) -> None:
    """As after many steps, which overfit; and nothing where the mean itself is the best."""
    method = Full(learning_rate=3e-3, solve=QUICK)
    told = set()
    for epochs in (3, 8):
        _, events = fitted_with(tiny_model, SWA(share=0.25), method=method, learning_rate=1e-3, epochs=epochs)
        plain = round(0.75 * max(event.step for event in events if isinstance(event, Stepped)))
        best = [event.step for event in events if isinstance(event, Evaluated) and event.best][-1]
        said = [
            event.message for event in events if isinstance(event, Said) and event.message.startswith("Not the mean")
        ]
        wanted = [
            f"Not the mean of the steps after step {plain} is kept, but the weights after step {best}: "
            "no later evaluation found a lower validation loss."
        ]
        assert said == (wanted if 0 < best <= plain else [])
        told.add(bool(said))
    assert told == {True, False}


def fitted_with(
    folder: Path, average: str | NoAverage, rows: int = 28, valid: int = 10, method: Method = METHOD, **changes: Any
) -> Any:
    training = replace(SETTINGS, average=average, **changes)
    return drained(*made(folder, method=method, training=training, rows=rows, valid=valid))


def tensors(fitted: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in fitted.model.state_dict().items()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("average", [EMA(), SWA(share=0.5), Soup(), WiseFT()])
def test_what_is_frozen_stays_and_the_live_model_is_what_is_kept(
    tiny_model: Path, average: NoAverage, precision: str
) -> None:
    training = replace(SETTINGS, average=average)
    learner, rows = made(tiny_model, method=METHOD, training=training, rows=ROWS, training_precision=precision)
    before = {name: tensor.clone() for name, tensor in learner.backbone.model.state_dict().items()}
    top = learner.backbone.blocks[-1]
    fitted, _ = drained(learner, rows)
    moved = {name for name, tensor in tensors(fitted).items() if not torch.equal(tensor, before[name])}
    assert any(name.startswith(top) for name in moved)
    assert all(name.startswith((top, "head", "scaler")) for name in moved)
    live = dict(fitted.working.live.named_parameters())
    for name, master in fitted.working.masters.named_parameters():
        assert torch.equal(master.to(live[name].dtype), live[name]), name


def test_without_validation_the_average_itself_is_kept(tiny_model: Path) -> None:
    plain, moving = (tensors(fitted_with(tiny_model, one, valid=0)[0]) for one in ("none", "ema"))
    last = tensors(fitted_with(tiny_model, SWA(share=1e-6), valid=0)[0])
    assert all(torch.equal(last[name], plain[name]) for name in plain)  # the mean of one update
    name = max(plain, key=lambda name: float((plain[name] - moving[name]).abs().max()))
    assert float((plain[name] - moving[name]).abs().max()) > 1e-4


def test_validation_loss_is_that_of_the_average_and_the_steps_are_the_same(tiny_model: Path) -> None:
    """Looking at other weights must not disturb the updates."""
    seen = {}
    averages = {"none": "none", "ema": EMA(), "swa": SWA(share=0.5), "soup": "soup", "wise-ft": "wise-ft"}
    for name, average in averages.items():
        events = fitted_with(tiny_model, average)[1]
        steps = [(event.step, event.loss) for event in events if isinstance(event, Stepped)]
        seen[name] = steps, [event.loss for event in events if isinstance(event, Evaluated)]
        assert steps == seen["none"][0]
    plain = seen["none"][1]
    assert seen["soup"][1] == seen["wise-ft"][1] == plain
    assert seen["ema"][1][0] == plain[0]
    assert all(one != other for one, other in zip(seen["ema"][1][1:], plain[1:], strict=True))
    assert seen["swa"][1][: len(plain) // 2] == plain[: len(plain) // 2]
    assert seen["swa"][1][-1] != plain[-1]


@pytest.mark.parametrize("average", ["soup", "wise-ft"])
def test_what_was_chosen_is_said_and_stands_in_the_notes(tiny_model: Path, average: str) -> None:
    fitted, events = fitted_with(tiny_model, average, rows=ROWS)
    said = [event.message for event in events if isinstance(event, Said) and "validation loss" in event.message]
    assert len(said) == 1
    assert any(said[0] in note for note in fitted.notes)


def test_steps_that_all_do_harm_leave_the_start(tiny_model: Path) -> None:
    """The head is then solved on untouched features, as without an average."""
    harmful = Full(learning_rate=0.5, epochs=1)
    for average in ("none", "ema", "soup", "wise-ft"):
        fitted, _ = fitted_with(tiny_model, average, method=harmful, epochs=1.0)
        assert any("No step lowered the validation loss" in note for note in fitted.notes), average
        assert not fitted.features_moved


def test_swa_takes_all_its_steps_and_says_when_it_could_not(tiny_model: Path) -> None:
    for average, whole in (("none", False), ("swa", True)):
        events = fitted_with(tiny_model, average, patience=1, learning_rate=0.3, epochs=6.0)[1]
        last = max(event.step for event in events if isinstance(event, Stepped))
        assert (last == 24) == whole
    fitted, _ = fitted_with(tiny_model, "swa", most_seconds=1e-9, valid=0)
    assert any("nothing was" in note for note in fitted.notes)


@pytest.mark.parametrize("average", ["soup", "wise-ft"])
def test_an_average_that_chooses_is_refused_where_nothing_is_held_out(tiny_model: Path, average: str) -> None:
    with pytest.raises(ConfigError, match="no validation rows are held out"):
        fitted_with(tiny_model, average, valid=0)
    training = replace(SETTINGS, average=average)
    with pytest.raises(ConfigError, match="no validation loss to choose by"):
        made(tiny_model, method=Contrastive(), training=training)[0].stages()


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_a_contrast_is_averaged_too(tiny_model: Path, average: str) -> None:
    contrast = Contrastive(learning_rate=1e-3, solve=QUICK)
    plain, mean = (tensors(fitted_with(tiny_model, one, method=contrast)[0]) for one in ("none", average))
    assert any(not torch.equal(plain[name], mean[name]) for name in plain)

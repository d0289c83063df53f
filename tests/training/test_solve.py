"""Law 7: many heads at once equal each alone, and a solved head is the optimum that scikit-learn finds."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from whet.training.solve import (
    FINE,
    Link,
    Problem,
    Refined,
    Solved,
    Tried,
    assign_folds,
    chosen_penalties,
    minimise,
    next_penalty,
    solve_head,
    standardise,
)

Array = np.ndarray[Any, Any]
PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)


def data(rows: int = 150, width: int = 6, classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, width, generator=draw) * torch.logspace(-2, 2, width) + 5
    middle = (features - features.mean(0)) / features.std(0)
    logits = middle @ torch.randn(width, classes, generator=draw) + torch.randn(rows, classes, generator=draw)
    return features, logits.argmax(1)


def targets_for(link: Link, features: torch.Tensor, classes: torch.Tensor) -> tuple[torch.Tensor, int]:
    if link == "softmax":
        return classes, 3
    if link == "sigmoid":
        return torch.nn.functional.one_hot(classes, 3).float(), 3
    noise = torch.randn(len(classes), generator=torch.Generator().manual_seed(1))
    return (classes + 0.1 * noise).unsqueeze(1), 1


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "identity"])
def test_many_heads_at_once_equal_each_alone(link: Link) -> None:
    features, classes = data()
    targets, outputs = targets_for(link, features, classes)
    points, _, _ = standardise(features)
    problem = Problem(points, targets, link, outputs)
    draw = torch.Generator().manual_seed(2)
    masks = (torch.rand(5, len(points), generator=draw) < 0.7).float()
    masks[3] *= torch.rand(len(points), generator=draw)  # row weights
    penalties = torch.tensor([1.0, 0.1, 0.01, 0.1, 0.001]).unsqueeze(1).expand(5, outputs)
    together, _ = problem.solve(masks, penalties, problem.start(5), tolerance=1e-4)
    for head in range(5):
        one = slice(head, head + 1)
        alone, _ = problem.solve(masks[one], penalties[one], problem.start(1), tolerance=1e-4)
        torch.testing.assert_close(points @ together[head], points @ alone[0], rtol=2e-3, atol=2e-3)
        losses = [problem.loss_per_output(points @ found, masks[head]) for found in (together[head], alone[0])]
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-6)


def fitted(features: torch.Tensor, targets: torch.Tensor, link: Link, outputs: int, penalty: float) -> Solved:
    folds = np.arange(len(features)) % 3
    return solve_head(features, targets, link, outputs, (penalty,), folds)


def answers(solved: Solved, features: torch.Tensor) -> Array:
    found = ((features - solved.mean) * solved.scale) @ solved.weight.T + solved.bias
    return found.numpy()


def standard(features: torch.Tensor) -> Array:
    points = features.double().numpy()
    return np.asarray((points - points.mean(0)) / points.std(0))


@pytest.mark.parametrize("penalty", [0.1, 0.01])
def test_softmax_is_the_optimum_of_scikit_learn(penalty: float) -> None:
    features, classes = data()
    peer = LogisticRegression(C=1 / (penalty * len(classes)), tol=1e-9, max_iter=5000)
    peer.fit(standard(features), classes.numpy())
    found = torch.from_numpy(answers(fitted(features, classes, "softmax", 3, penalty), features)).softmax(1).numpy()
    assert found == pytest.approx(peer.predict_proba(standard(features)), abs=5e-3)


def test_two_classes_are_the_optimum_of_scikit_learn() -> None:
    features, classes = data(classes=2)
    found = torch.from_numpy(answers(fitted(features, classes, "softmax", 2, 0.1), features)).softmax(1).numpy()
    # two columns share the weight: |w|^2 of the pair is half of that of their difference
    peer = LogisticRegression(C=1 / (0.05 * len(classes)), tol=1e-9, max_iter=5000)
    peer.fit(standard(features), classes.numpy())
    assert found == pytest.approx(peer.predict_proba(standard(features)), abs=5e-3)


def test_sigmoid_is_one_logistic_regression_a_label() -> None:
    features, classes = data()
    targets = torch.nn.functional.one_hot(classes, 3).float()
    found = torch.from_numpy(answers(fitted(features, targets, "sigmoid", 3, 0.05), features)).sigmoid().numpy()
    for label in range(3):
        peer = LogisticRegression(C=1 / (0.05 * len(classes)), tol=1e-9, max_iter=5000)
        peer.fit(standard(features), (classes == label).numpy())
        assert found[:, label] == pytest.approx(peer.predict_proba(standard(features))[:, 1], abs=5e-3)


@pytest.mark.parametrize(("rows", "width"), [(150, 6), (12, 40)])
def test_ridge_is_that_of_scikit_learn(rows: int, width: int) -> None:
    features, _ = data(rows, width)
    targets = torch.randn(rows, 1, generator=torch.Generator().manual_seed(3)) * 4 + 100
    peer = Ridge(alpha=0.1 * rows).fit(standard(features), targets[:, 0].double().numpy())
    found = answers(fitted(features, targets, "identity", 1, 0.1), features)[:, 0]
    assert found == pytest.approx(peer.predict(standard(features)), rel=1e-4)


def test_row_weights_count_rows_as_often_as_they_say() -> None:
    features, classes = data(60)
    weights = torch.tensor([1.0, 2.0, 3.0])[torch.arange(60) % 3]
    peer = LogisticRegression(C=1 / (0.1 * float(weights.sum())), tol=1e-9, max_iter=5000)
    points, _, _ = standardise(features)
    peer.fit(points[:, :-1].numpy(), classes.numpy(), sample_weight=weights.numpy())
    found = solve_head(features, classes, "softmax", 3, (0.1,), np.arange(60) % 2, weights)
    probabilities = torch.from_numpy(answers(found, features)).softmax(1).numpy()
    assert probabilities == pytest.approx(peer.predict_proba(points[:, :-1].numpy()), abs=5e-3)


def test_held_out_outputs_come_from_heads_that_did_not_see_the_row() -> None:
    features, classes = data(40)
    folds = assign_folds(classes.numpy(), None, 4, 0)
    first = solve_head(features, classes, "softmax", 3, (0.1,), folds)
    for fold in range(4):
        other = classes.clone()
        other[torch.from_numpy(folds == fold)] = 0  # what is held out may say anything
        second = solve_head(features, other, "softmax", 3, (0.1,), folds)
        held = torch.from_numpy(folds == fold)
        torch.testing.assert_close(second.held_out[held], first.held_out[held])
        assert not torch.allclose(second.held_out[~held], first.held_out[~held])


@pytest.mark.parametrize("best", range(6))
def test_the_walk_over_penalties_finds_the_valley(best: int) -> None:
    def loss(place: int) -> torch.Tensor:
        return torch.tensor([float(abs(place - best)) + 1.0])

    tried: dict[int, Tried] = {}
    while (place := next_penalty(tried, 6, separate=False)) is not None:
        assert place not in tried
        tried[place] = Tried(torch.zeros(1), torch.zeros(1), loss(place))
    assert min(tried, key=lambda place: float(tried[place].loss)) == best
    assert len(tried) <= abs(best - 3) + 3


def test_the_chosen_penalty_has_the_lowest_held_out_loss_of_all() -> None:
    for seed in range(4):
        features, classes = data(60, 20, seed=seed)
        folds = assign_folds(classes.numpy(), None, 5, seed)
        walked = solve_head(features, classes, "softmax", 3, PENALTIES, folds)
        single = {p: solve_head(features, classes, "softmax", 3, (p,), folds).path[0][1] for p in PENALTIES}
        assert single[min(single, key=lambda p: abs(p - walked.penalties[0]))] <= min(single.values()) * 1.01


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
@pytest.mark.parametrize("penalty", [0.5, 1e-5])
def test_a_calibrated_head_answers_alike_at_nearly_the_best_temperature_for_held_out_rows(
    link: Link, penalty: float
) -> None:
    """Too strong a penalty leaves a head too unsure, too weak a one too sure."""
    features, classes = data(1500, 150)
    targets, outputs = targets_for(link, features, classes)
    folds = assign_folds(classes.numpy(), None, 5, 0)
    plain, calibrated = (
        solve_head(features, targets, link, outputs, (penalty,), folds, calibrate=calibrate)
        for calibrate in (False, True)
    )
    problem, weights = Problem(features, targets, link, outputs), torch.ones(1500)
    factor = calibrated.held_out / plain.held_out
    torch.testing.assert_close(factor, factor.mean().expand_as(factor), rtol=1e-3, atol=0)
    torch.testing.assert_close(calibrated.weight, plain.weight * factor.mean(), rtol=1e-3, atol=1e-6)
    assert (factor.mean() > 1.2) if penalty == 0.5 else (factor.mean() < 0.8)
    least = float(problem.loss_per_output(calibrated.held_out, weights).mean())
    for other in (0.75, 1.33):  # the optimum leans a little towards 1
        assert float(problem.loss_per_output(calibrated.held_out * other, weights).mean()) > least


def test_a_few_rows_that_are_all_answered_rightly_do_not_make_a_head_ever_surer() -> None:
    draw = torch.Generator().manual_seed(0)
    classes = torch.arange(2020) % 2
    features = torch.randn(2020, 10, generator=draw) + 1.5 * classes.unsqueeze(1)
    losses = []
    for calibrate in (False, True):
        found = solve_head(
            features[:20], classes[:20], "softmax", 2, PENALTIES, np.arange(20) // 2 % 5, calibrate=calibrate
        )
        unseen = torch.from_numpy(answers(found, features[20:]))
        losses.append(float(torch.nn.functional.cross_entropy(unseen, classes[20:])))
    assert losses[1] < 1.2 * losses[0]


def test_a_regression_is_never_tempered() -> None:
    features, classes = data()
    targets, outputs = targets_for("identity", features, classes)
    folds = assign_folds(np.zeros(150), None, 5, 0)
    plain, asked = (
        solve_head(features, targets, "identity", outputs, PENALTIES, folds, calibrate=calibrate)
        for calibrate in (False, True)
    )
    assert torch.equal(plain.weight, asked.weight)


def test_a_penalty_that_tells_more_apart_is_chosen_only_where_that_is_sure() -> None:
    """The first penalty has the lower loss as it is, the second at its best temperature."""
    rows = 400
    draw = torch.Generator().manual_seed(0)
    first, gained = torch.rand(rows, generator=draw).double(), torch.rand(rows, generator=draw).double() - 0.45

    def tried(loss: float, each: torch.Tensor) -> Tried:
        nothing = torch.zeros(1)
        return Tried(nothing, nothing, torch.tensor([loss]), Refined(float(each.mean()), 1.0, each))

    for count, wanted in ((rows, 1), (20, 0)):
        found = chosen_penalties(
            [tried(0.1, first[:count]), tried(0.2, first[:count] - gained[:count])], torch.ones(count)
        )
        assert float(gained[:count].mean()) > 0
        assert found.tolist() == [wanted]


def test_each_label_gets_its_own_penalty() -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(200, 30, generator=draw)
    easy = (features[:, 0] > 0).float()
    noise = (torch.rand(200, generator=draw) < 0.5).float()
    targets = torch.stack([easy, noise], 1)
    found = solve_head(features, targets, "sigmoid", 2, PENALTIES, assign_folds(np.zeros(200), None, 5, 0))
    assert found.penalties[0] < found.penalties[1]
    assert len(found.path) == len(PENALTIES)


def finite(solved: Solved) -> bool:
    tensors = (solved.mean, solved.scale, solved.weight, solved.bias, solved.held_out)
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


@pytest.mark.parametrize("rows", [1, 30])
def test_constant_and_huge_features_are_survived(rows: int) -> None:
    features, classes = data(max(rows, 3))
    features[:, 1], features[:, 2] = 7e3, features[:, 2] * 1e6
    solved = solve_head(features, classes, "softmax", 3, PENALTIES, np.arange(len(classes)) % 3)
    assert finite(solved)
    assert float(solved.scale[1]) == 0.0
    moved = features.clone()
    moved[:, 1] += 100  # a feature that never varied says nothing
    assert answers(solved, moved) == pytest.approx(answers(solved, features))


DEGENERATE: dict[str, tuple[int, int, list[int] | None]] = {
    "one row a class": (3, 5, [0, 1, 2]),
    "two rows": (2, 5, [0, 1]),
    "more features than rows": (10, 50, None),
    "a class absent from a fold": (30, 5, [0] * 28 + [1, 2]),
    "separable": (30, 30, None),
}


@pytest.mark.parametrize("calibrate", [False, True])
@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_classes_give_finite_heads(case: str, calibrate: bool) -> None:
    rows, width, classes = DEGENERATE[case]
    features, drawn = data(rows, width)
    targets = drawn if classes is None else torch.tensor(classes)
    folds = assign_folds(targets.numpy(), None, 5, 0)
    assert finite(solve_head(features, targets, "softmax", 3, PENALTIES, folds, calibrate=calibrate))


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "identity"])
def test_rows_of_a_single_unit_cannot_be_held_out_and_are_fitted_all_the_same(link: Link) -> None:
    features, classes = data(20)
    targets, outputs = targets_for(link, features, classes)
    folds = assign_folds(np.zeros(20, np.int64), np.zeros(20, np.int64), 5, 0)
    assert set(folds.tolist()) == {0}
    solved = solve_head(features, targets, link, outputs, PENALTIES, folds, calibrate=True)
    assert finite(solved)
    assert float(solved.weight.abs().max()) > 0


def test_a_label_that_every_row_has_is_answered_with_yes() -> None:
    features, classes = data(40)
    targets = torch.stack([torch.ones(40), torch.zeros(40), (classes == 0).float()], 1)
    solved = solve_head(features, targets, "sigmoid", 3, PENALTIES, assign_folds(np.zeros(40), None, 5, 0))
    assert finite(solved)
    found = answers(solved, features)
    assert (found[:, 0] > 0).all()
    assert (found[:, 1] < 0).all()


def test_the_same_input_gives_the_same_bytes() -> None:
    features, classes = data()
    folds = assign_folds(classes.numpy(), None, 5, 0)
    one, two = (solve_head(features, classes, "softmax", 3, PENALTIES, folds) for _ in range(2))
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.held_out, two.held_out)


def test_minimise_reaches_a_known_minimum_and_spends_nothing_on_finished_heads() -> None:
    wanted = torch.tensor([0.0, 3.0, -200.0]).view(3, 1, 1).expand(3, 2, 2)
    asked: list[int] = []

    def evaluate(heads: torch.Tensor, which: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(len(which))
        gap = heads - wanted[which]
        stretched = gap * torch.tensor([1.0, 50.0])
        return 1 + 0.5 * (gap * stretched).double().sum((1, 2)), stretched

    found, _ = minimise(evaluate, torch.zeros(3, 2, 2), tolerance=FINE)
    torch.testing.assert_close(found, wanted.contiguous(), rtol=1e-3, atol=1e-3)
    assert min(asked) == 1


def test_folds_spread_classes_and_keep_units_together() -> None:
    strata = np.repeat([0, 1, 2], [50, 20, 5])
    folds = assign_folds(strata, None, 5, 0)
    for stratum, count in ((0, 50), (1, 20), (2, 5)):
        assert np.bincount(folds[strata == stratum], minlength=5).tolist() == [count // 5] * 5
    units = np.arange(75) // 3
    grouped = assign_folds(strata, units, 5, 0)
    assert all(len(set(grouped[units == unit].tolist())) == 1 for unit in set(units.tolist()))
    assert not np.array_equal(folds, assign_folds(strata, None, 5, 1))
    assert np.array_equal(folds, assign_folds(strata, None, 5, 0))


def earlier_head(outputs: int, width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    return torch.randn(outputs, width, generator=draw), torch.randn(outputs, generator=draw)


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "identity"])
def test_a_strong_penalty_keeps_the_answers_of_an_earlier_head(link: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    features = 5.0 + 2.0 * torch.randn(60, 6, generator=draw)
    features[:, 2] = 1.5  # a constant feature belongs to the earlier answers too
    outputs = 1 if link == "identity" else 3
    targets = {
        "softmax": torch.arange(60) % 3,
        "sigmoid": (torch.rand(60, 3, generator=draw) > 0.5).float(),
        "identity": torch.randn(60, 1, generator=draw),
    }[link]
    prior = earlier_head(outputs)
    found = solve_head(features, targets, link, outputs, (1e7,), np.arange(60) % 2, prior=prior)
    answered = (features - found.mean) * found.scale @ found.weight.T + found.bias
    torch.testing.assert_close(answered, features @ prior[0].T + prior[1], rtol=1e-3, atol=1e-3)


def test_a_class_without_rows_keeps_its_earlier_answers_and_the_others_learn_beside_it() -> None:
    draw = torch.Generator().manual_seed(0)
    features, targets = torch.randn(80, 6, generator=draw), torch.arange(80) % 2 * 2  # classes 0 and 2 of three
    features[:, 0] += targets.float()
    prior = earlier_head(3)
    found = solve_head(features, targets, "softmax", 3, (1e-2,), np.arange(80) % 2, prior=prior)
    answered = (features - found.mean) * found.scale @ found.weight.T + found.bias
    torch.testing.assert_close(answered[:, 1], features @ prior[0][1] + prior[1][1], rtol=1e-4, atol=1e-4)
    assert float((answered[:, [0, 2]].argmax(1) * 2 == targets).float().mean()) > 0.8

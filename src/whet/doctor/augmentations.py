"""Which random changes leave targets what they are? Asked of the training rows.

A probe is fitted out of fold on the features of rows as they are, and answers those rows and changed copies of them. A
change is safe if the task's loss surely rises by less than 2%: the upper bound of the rise, paired by row and corrected
for the number of changes, after Holm 1979. What cannot be told is kept only if it is mild.
The copies go into the same solve with a weight of zero: no head is fitted to them, but features are standardised over
them too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from whet import catalog
from whet.backbones.cut import FeatureCut
from whet.data.fingerprints import row_units
from whet.data.rows import Columns, Finding, Rows, spread
from whet.errors import ConfigError
from whet.learners.fitted import drain, feature_cache, row_features
from whet.learners.neural import Neural, Pretrained
from whet.methods.method import Solve
from whet.methods.probe import Probe
from whet.modalities.modality import Augmentation
from whet.tasks.task import Examples, State, Task
from whet.training.batches import strata_of
from whet.training.objective import loss_shares
from whet.training.replay import activations
from whet.training.settings import Training
from whet.training.solve import assign_folds, solve_head
from whet.training.views import USUAL_VIEWS, views_of

Array = np.ndarray[Any, Any]
FEWEST, MOST = 256, 2048
"""Rows that are asked, at least where there are so many; between them as many as make one pass over the rows in all."""
AUGMENTATIONS = "augmentations"
"""The name of the finding."""
TOLERATED = 0.02
"""Of the loss, by which it may rise."""
ERROR = 0.05
"""Of being wrong about any of the changes."""


@dataclass(frozen=True)
class Answer:
    """What rows say of one augmentation.

    Args:
        rise: Of the loss, as a share of it; least and most: its bounds, corrected.
        verdict: "safe", "harmful" or "open".
    """

    augmentation: Augmentation
    rise: float
    least: float
    most: float
    verdict: str

    @property
    def kept(self) -> bool:
        return self.verdict == "safe" or (self.verdict == "open" and self.augmentation.mild)


def candidates(modality: str) -> tuple[Augmentation, ...]:
    """The augmentations of one kind of input that rows are asked about."""
    names = [name for name, one in catalog.members("augmentation").items() if one.modality == modality]
    return tuple(one for one in (catalog.find("augmentation", name)() for name in names) if one.usual)


def with_views(
    training: Training, task: Task, state: State, columns: Columns, train: Rows, pretrained: Pretrained
) -> tuple[Training, tuple[Finding, ...]]:
    """Settings with their views and augmentations: as named, else those that training rows call safe.

    Raises:
        ConfigError: views are named, and nothing could make them differ.
    """
    modality = catalog.name_of("modality", columns.modality)
    if training.views == 1 or training.augment == ():
        if (training.views or 1) > 1 or training.augment:
            raise ConfigError(
                f"{training.views} view{'s' if training.views != 1 else ''} and "
                f"{len(training.augment or ()) or 'no'} augmentations contradict each other.",
                where="training.views",
                fix="name both, or leave both out",
            )
        return replace(training, views=1, augment=()), ()
    if training.augment is not None:
        for one in training.augment:
            require_kind(one, modality)
        return replace(training, views=training.views or USUAL_VIEWS), ()
    asked = candidates(modality)
    if not asked:
        if training.views is not None:
            raise ConfigError(
                f"No augmentation of {columns.modality.nouns[1]} is known, so {training.views} views would be one.",
                where="training.views",
                fix="leave it out",
            )
        return replace(training, views=1, augment=()), ()
    answers = ask(asked, task, state, columns, train, pretrained)
    kept = tuple(one.augmentation for one in answers if one.kept)
    views = (training.views or USUAL_VIEWS) if kept else 1
    return replace(training, views=views, augment=kept), (finding_of(answers, train),)


def require_kind(augmentation: Augmentation, modality: str) -> None:
    """Refuse what is made for another kind of input.

    Raises:
        ConfigError: it is.
    """
    name = catalog.name_of("augmentation", augmentation)
    own = catalog.members("augmentation")[name].modality
    if own not in ("", modality):
        raise ConfigError(
            f"The augmentation {name!r} is made for {own} inputs, not for {modality}.",
            where="training.augment",
            fix="leave it out",
        )


def ask(
    asked: Sequence[Augmentation], task: Task, state: State, columns: Columns, train: Rows, pretrained: Pretrained
) -> tuple[Answer, ...]:
    """What the rows say of each."""
    task = task.proper()
    number = min(len(train), MOST, max(FEWEST, len(train) // len(asked)))
    rows = train.select(spread(len(train), number))
    examples = task.encode(rows, columns, pretrained.processor, state, targeted=True)
    learner = pretrained.learner(task, state, columns, Probe())
    shown = [examples]
    for one in asked:
        shown += views_of(examples, columns.modality, (one,), 2, pretrained.seed)[1:]
    features = torch.from_numpy(features_of(learner, shown))
    losses = losses_of(features, examples, row_units(rows, columns), Probe().solve, task, state, pretrained.seed)
    return judged(asked, losses, row_units(rows, columns))


def features_of(learner: Neural, shown: Sequence[Examples]) -> Array:
    """(M * N, D) float32: features of every view, one view after another."""
    torch.set_num_threads(learner.machinery.threads)
    fitted = learner.unfitted(learner.backbone, learner.machinery.precision)
    cache, found = feature_cache(fitted), []
    for number, examples in enumerate(shown):
        kept = cache if number == 0 else None  # the run asks for the features of examples as they are
        values = drain(
            activations(
                fitted.working.live, FeatureCut(), examples, fitted.processor, kept,
                stage="augmentations", most_tokens=fitted.machinery.most_tokens,
            )
        )  # fmt: skip
        found.append(row_features(values["features"], examples))
    return np.concatenate(found)


def losses_of(
    features: torch.Tensor, examples: Examples, units: Array, how: Solve, task: Task, state: State, seed: int
) -> Array:
    """(M, N) float64: the loss of each row in each view, by heads that saw neither it nor any changed row."""
    targets, views = examples.targets, len(features) // examples.rows
    assert targets is not None
    every = np.concatenate([targets] * views)
    link, wanted = task.solvable(every, state)
    weights = next(iter(task.weights(torch.from_numpy(targets), torch.ones(len(targets)), state).values()))
    folds = assign_folds(strata_of(targets), units, how.folds, seed)
    solved = solve_head(
        features,
        wanted,
        link,
        task.outputs(state),
        how.penalties,
        np.tile(folds, views),
        torch.cat([weights, torch.zeros(len(weights) * (views - 1))]),
        calibrate=task.tempered,
    )
    return loss_shares(task, state, solved.held_out, every).numpy().reshape(views, -1)


def judged(asked: Sequence[Augmentation], losses: Array, units: Array) -> tuple[Answer, ...]:
    """Holm's procedure, on both sides: which changes surely raise the loss by less than is tolerated, which by more.

    Args:
        losses: (1 + M, N) of the rows as they are, and changed by each.
        units: (N,) rows of one unit count together.
    """
    from scipy import stats

    _, unit = np.unique(units, return_inverse=True)
    plain = np.bincount(unit, losses[0])
    base = max(float(plain.mean()), 1e-12)
    rises = np.stack([np.bincount(unit, one) - plain for one in losses[1:]]) / base
    number = rises.shape[1]
    means = rises.mean(1)
    errors = np.maximum(rises.std(1, ddof=1) / np.sqrt(number), 1e-12) if number > 1 else np.full(len(rises), np.inf)
    distance = (TOLERATED - means) / errors
    below, above = stats.t.sf(distance, max(1, number - 1)), stats.t.cdf(distance, max(1, number - 1))
    safe, harmful = holm(below), holm(above)
    reach = stats.t.isf(ERROR / len(rises), max(1, number - 1)) * errors
    return tuple(
        Answer(one, float(mean), float(mean - far), float(mean + far), "safe" if s else "harmful" if h else "open")
        for one, mean, far, s, h in zip(asked, means, reach, safe, harmful, strict=True)
    )


def holm(chances: Array) -> Array:
    """(M,) which of several hypotheses are rejected, with a chance of ``ERROR`` of rejecting any true one.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6.
    """
    found = np.zeros(len(chances), bool)
    for rank, place in enumerate(np.argsort(chances, kind="stable")):
        if chances[place] > ERROR / (len(chances) - rank):
            break
        found[place] = True
    return found


def finding_of(answers: Sequence[Answer], train: Rows) -> Finding:
    """What is kept, what is dropped, and why."""
    kept = [words(one) for one in answers if one.kept]
    dropped = [words(one) for one in answers if not one.kept]
    message = f"Augmented by {', '.join(kept)}." if kept else "Nothing is augmented."
    message += f" Left out: {', '.join(dropped)}." if dropped else ""
    fix = "nothing, or name them yourself: --set training.augment=[crop,flip]; [] turns it off"
    return Finding(AUGMENTATIONS, "info", message, train.source, fix, count=len(dropped))


def words(answer: Answer) -> str:
    """One augmentation with what it does to the loss."""
    name = catalog.name_of("augmentation", answer.augmentation)
    if answer.verdict == "open":
        mild = "mild, and " if answer.kept else ""
        return f"{name} ({mild}not settled: loss {answer.rise:+.1%}, {answer.least:+.1%} to {answer.most:+.1%})"
    bound = f"at most {answer.most:+.1%}" if answer.verdict == "safe" else f"at least {answer.least:+.1%}"
    return f"{name} (loss {answer.rise:+.1%}, {bound})"

"""Which views of its training examples does a stage learn from? The examples as they are, and augmented ones.

A view of an example is a function of the seed, the view's number and the example's content: every stage, epoch and run
sees the same, so what is frozen runs once for each view, and rows that come or go change nobody else's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from whet.data.ragged import Ragged
from whet.errors import ConfigError
from whet.modalities.modality import Augmentable, Augmentation
from whet.tasks.task import Examples
from whet.training.cache import content
from whet.training.draws import numpy_generator

FORMAT = 1
"""Of what augmentations make of an example; part of the key of what is cached."""
USUAL_VIEWS = 4
"""Of each training example, where steps are taken and some augmentation is safe."""


@dataclass(frozen=True)
class Augmented:
    """One augmented view.

    Args:
        modality: Applies the augmentations.
        number: 1 and up; view 0 is an example as it is.
    """

    modality: Augmentable
    augmentations: tuple[Augmentation, ...]
    seed: int
    number: int

    def key(self) -> str:
        kinds = [f"{type(one).__module__}.{one!r}" for one in self.augmentations]
        return f"{FORMAT} {kinds} {self.seed} {self.number}"

    def of(self, inputs: dict[str, Ragged]) -> dict[str, Ragged]:
        found = next(iter(inputs.values()))
        draws = [numpy_generator("view", self.seed, self.number, content(inputs, i)) for i in range(len(found))]
        return self.modality.augment(inputs, self.augmentations, draws) if len(found) else inputs


def views_of(
    examples: Examples, modality: Augmentable, augmentations: Sequence[Augmentation], count: int, seed: int
) -> tuple[Examples, ...]:
    """The examples as they are, and so many augmented views of them that they are ``count``; nothing for one.

    Raises:
        ConfigError: there is nothing to augment by.
    """
    if count == 1:
        return ()
    if not augmentations:
        raise ConfigError(
            f"{count} views of each example need an augmentation, and there is none.",
            where="training.views",
            fix="leave it out, or name some with training.augment",
        )
    chosen = tuple(augmentations)
    return (examples, *(replace(examples, view=Augmented(modality, chosen, seed, n)) for n in range(1, count)))

"""Schedule-free AdamW: gradients are taken near an average of the weights, which takes the place of a falling rate.

Source: Defazio et al. 2024, "The Road Less Scheduled", arXiv:2405.15682, through their package ``schedulefree``.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from whet.errors import ConfigError, MissingPackageError
from whet.numeric import require_numbers
from whet.training.optimizer import Scheduled, Share, Stepper, flat_built
from whet.training.schedules import Schedule

KEPT: dict[str, float] = {"k": 0, "weight_sum": 0.0, "lr_max": -1.0, "train_mode": True}
"""What the package keeps for a whole group, and its start: updates, the sum of their weights in the average, the
highest rate, and whether the masters are those that step."""


@dataclass(frozen=True, kw_only=True)
class ScheduleFree(Scheduled):
    """AdamW whose answers are the average of its weights.

    The rate stays at its peak, so it may be higher than one that falls: the authors name one to ten times.

    Args:
        momentum: How near the average gradients are taken; the first of AdamW's two betas.
    """

    momentum: float = 0.9
    usual_rate: ClassVar[float] = 2.0
    schedule: ClassVar[Schedule] = "constant"
    own_schedule: ClassVar[str] = "its average of the weights takes the place of a falling rate"

    def __post_init__(self) -> None:
        require_numbers(self, "training.optimizer")
        if not 0 < self.momentum < 1:
            raise ConfigError(
                f"momentum cannot be {self.momentum!r}.",
                where="training.optimizer.momentum",
                fix="use a value between 0 and 1, such as 0.9",
            )

    def stepper(self, shares: Sequence[Share]) -> Stepper:
        try:
            from schedulefree import AdamWScheduleFree
        except ImportError as error:
            raise MissingPackageError(
                "The optimizer 'schedule-free' needs the schedulefree package.",
                where="training.optimizer",
                fix="pip install 'whet[schedule-free]'",
            ) from error
        settings = {"betas": (self.momentum, 0.999), "eps": 1e-8}
        return Averaging(shares, flat_built(shares, AdamWScheduleFree, **settings), self.usual_rate)


class Averaging(Stepper):
    """Steps one set of weights and answers with another.

    Masters are the weights at which gradients are taken, ``y = (1 - momentum) z + momentum x``; ``z`` is remembered and
    ``x``, the average, answers. Both y and z go to checkpoints as they are: x follows, and turning y into x and back
    would round it, so that a resumed run would differ from one that never stopped.
    """

    def __init__(self, *built: Any) -> None:
        super().__init__(*built)
        for optimizer in self.inner:
            optimizer.train()  # type: ignore[attr-defined]

    @torch.no_grad()
    def pull(self, share: Share, rate: float) -> None:
        """As the package decays: measured at y, applied to z; x stays, and y follows z."""
        place = next(place for place in self.places if place.flat is share.flat)
        z = place.inner.state.get(place.parameter, {}).get("z")
        if share.flat.start is None or z is None:  # before the first update there is no distance
            return
        moved = (share.flat.start - share.flat.whole) * min(1.0, rate * share.flat.pull)
        z.add_(moved)
        share.flat.whole.add_(moved, alpha=1 - self.momentum)

    def tensors(self) -> dict[str, Tensor]:
        found = super().tensors()
        for place, group in zip(self.places, self.param_groups, strict=True) if found else ():
            found |= {f"{key}/{place.names[0]}": torch.tensor(group[key], dtype=torch.float64) for key in KEPT}
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        kept = {key: one for key, one in tensors.items() if key.partition("/")[0] in KEPT}
        super().load({key: one for key, one in tensors.items() if key not in kept})
        for place, group in zip(self.places, self.param_groups, strict=True):
            for key, start in KEPT.items():
                value = kept.get(f"{key}/{place.names[0]}")
                group[key] = start if value is None else type(start)(value)

    @contextmanager
    def answering(self) -> Iterator[bool]:
        """Inside, the masters are the average; afterwards they are, bit by bit, what they were."""
        kept = [share.flat.whole.detach().clone() for share in self.shares]
        for optimizer in self.inner:
            optimizer.eval()  # type: ignore[attr-defined]
        try:
            yield True
        finally:
            with torch.no_grad():
                for optimizer in self.inner:
                    optimizer.train()  # type: ignore[attr-defined]
                for share, whole in zip(self.shares, kept, strict=True):
                    share.flat.whole.copy_(whole)

    def finish(self) -> None:
        for optimizer in self.inner:
            optimizer.eval()  # type: ignore[attr-defined]

    @property
    def momentum(self) -> float:
        return float(self.param_groups[0]["betas"][0])

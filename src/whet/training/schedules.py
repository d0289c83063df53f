"""How does the learning rate move over a stage? A factor on the peak rate for every step.

All rise over the same warm-up and differ in what comes after it.
"""

import math
from collections.abc import Callable
from typing import Literal

Schedule = Literal["linear", "cosine", "constant", "one-cycle", "warmup-stable-decay"]
FIRST, LAST = 1 / 25, 1e-4
"""Of the peak, where one-cycle begins and ends."""
DECAY = 0.2
"""Share of what follows the warm-up in which warmup-stable-decay falls."""


def linear(done: float) -> float:
    """Straight to zero."""
    return 1.0 - done


def cosine(done: float) -> float:
    """Half a cosine to zero. Source: Loshchilov and Hutter 2016, arXiv:1608.03983, without restarts."""
    return 0.5 * (1.0 + math.cos(math.pi * done))


def constant(done: float) -> float:
    """The peak to the end."""
    return 1.0


def one_cycle(done: float) -> float:
    """Half a cosine to a ten-thousandth; the rise is one too. Source: Smith and Topin 2017, arXiv:1708.07120."""
    return LAST + (1.0 - LAST) * cosine(done)


def warmup_stable_decay(done: float) -> float:
    """The peak for four fifths, then down as one minus a root. Source: Hägele et al. 2024, arXiv:2405.18392."""
    return 1.0 if done <= 1 - DECAY else 1.0 - math.sqrt((done - (1 - DECAY)) / DECAY)


FALLS: dict[str, Callable[[float], float]] = {
    "linear": linear,
    "cosine": cosine,
    "constant": constant,
    "one-cycle": one_cycle,
    "warmup-stable-decay": warmup_stable_decay,
}
"""From the share of steps done after the warm-up, 0 to below 1, to the factor."""


def rate_at(step: int, steps: int, schedule: Schedule, warmup: float) -> float:
    """The factor on the peak rate, above 0 and at most 1.

    Args:
        step: From 0, of ``steps``.
        warmup: Share of all steps over which the rate rises.
    """
    warm = max(1, round(warmup * steps)) if warmup > 0 else 0
    if step < warm:
        share = (step + 1) / (warm + 1)
        return FIRST + (1.0 - FIRST) * (1.0 - cosine(share)) if schedule == "one-cycle" else share
    return FALLS[schedule]((step - warm) / max(1, steps - warm))

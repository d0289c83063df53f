"""One number by which a classifier's outputs are divided, so that its probabilities mean what they say.

What a model tells apart and how sure it is of it are two things. Held-out loss at the best temperature measures the
first alone, so penalties and steps are compared by it; the temperature is then folded into the head.

Sources: Guo et al. 2017, "On calibration of modern neural networks", arXiv:1706.04599; Berta et al. 2025, "Rethinking
early stopping: refine, then calibrate", arXiv:2501.19195. Ours leans towards what is usual, which is 1 but for heads
that were solved on the rows that moved their features: where a few rows are all answered rightly, the loss alone would
make the model ever surer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

LEAST, MOST = 1 / 16, 16.0
TOLERANCE = 0.01
WIDE = 0.6
"""Standard deviation of a temperature's logarithm from one set of few rows to the next, where features were moved."""


@dataclass(frozen=True)
class Expected:
    """What is expected of a temperature before any row is seen.

    Args:
        middle: Where it most likely lies.
        spread: Standard deviation of its logarithm.
    """

    middle: float = 1.0
    spread: float = 0.25

    @staticmethod
    def around(middle: float) -> "Expected":
        """Of a head that trials showed to be over-sure by so much; by how much differs from set to set."""
        return EXPECTED if middle == 1.0 else Expected(middle, WIDE)


EXPECTED = Expected()
"""Of most heads: that they are as sure as they may be."""


def best_temperature(loss: Callable[[float], float], rows: float, expected: Expected = EXPECTED) -> tuple[float, float]:
    """The loss at the likeliest temperature, which is never above that at the expected one, and that temperature.

    Args:
        loss: Mean loss of outputs divided by a temperature; it has one valley in the temperature's logarithm.
        rows: How many rows it is a mean of; so many nats stand against what was expected before.
        expected: What was expected before.
    """
    from scipy.optimize import minimize_scalar

    bounds = (math.log(LEAST), math.log(MOST))
    options = {"xatol": TOLERANCE}
    middle, strength = math.log(expected.middle), 0.5 / (expected.spread**2 * max(rows, 1.0))

    def cost(logarithm: float) -> float:
        return loss(math.exp(logarithm)) + strength * (logarithm - middle) ** 2

    found = minimize_scalar(cost, bounds=bounds, method="bounded", options=options)
    temperature = math.exp(float(found.x)) if found.fun < loss(expected.middle) else expected.middle
    return loss(temperature), temperature

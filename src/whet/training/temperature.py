"""One number by which a classifier's outputs are divided, so that its probabilities mean what they say.

What a model tells apart and how sure it is of it are two things. Held-out loss at the best temperature measures the
first alone, so penalties and steps are compared by it; the temperature is then folded into the head.

Sources: Guo et al. 2017, "On calibration of modern neural networks", arXiv:1706.04599; Berta et al. 2025, "Rethinking
early stopping: refine, then calibrate", arXiv:2501.19195. Ours leans towards 1: where a few rows are all answered
rightly, the loss alone would make the model ever surer.
"""

import math
from collections.abc import Callable

LEAST, MOST = 1 / 16, 16.0
SPREAD = 0.25
"""Standard deviation of the temperature's logarithm that is expected before any row is seen."""
TOLERANCE = 0.01


def best_temperature(loss: Callable[[float], float], rows: float) -> tuple[float, float]:
    """The likeliest temperature, and the loss it gives, which is never above that at 1.

    Args:
        loss: Mean loss of outputs divided by a temperature; it has one valley in the temperature's logarithm.
        rows: How many rows it is a mean of; so many nats stand against what was expected before.
    """
    from scipy.optimize import minimize_scalar

    bounds = (math.log(LEAST), math.log(MOST))
    options = {"xatol": TOLERANCE}
    strength = 0.5 / (SPREAD**2 * max(rows, 1.0))

    def cost(logarithm: float) -> float:
        return loss(math.exp(logarithm)) + strength * logarithm**2

    found = minimize_scalar(cost, bounds=bounds, method="bounded", options=options)
    temperature = math.exp(float(found.x)) if found.fun < loss(1.0) else 1.0
    return loss(temperature), temperature

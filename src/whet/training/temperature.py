"""One number by which a classifier's outputs are divided, so that its probabilities mean what they say.

What a model tells apart and how sure it is of it are two things. Held-out loss at the best temperature measures the
first alone, so penalties and steps are compared by it; the temperature is then folded into the head.

Sources: Guo et al. 2017, "On calibration of modern neural networks", arXiv:1706.04599; Berta et al. 2025, "Rethinking
early stopping: refine, then calibrate", arXiv:2501.19195.
"""

import math
from collections.abc import Callable

LEAST, MOST = 1 / 16, 16.0
"""Temperatures tried: rows that are all answered rightly would drive it to zero."""
TOLERANCE = 0.01


def best_temperature(loss: Callable[[float], float]) -> tuple[float, float]:
    """The lowest loss over temperatures, and the temperature it takes.

    Args:
        loss: Mean loss of outputs divided by a temperature; it has one valley in the temperature's logarithm.
    """
    from scipy.optimize import minimize_scalar

    bounds = (math.log(LEAST), math.log(MOST))
    options = {"xatol": TOLERANCE}
    found = minimize_scalar(lambda x: loss(math.exp(x)), bounds=bounds, method="bounded", options=options)
    plain = loss(1.0)
    return (float(found.fun), math.exp(float(found.x))) if found.fun < plain else (plain, 1.0)

"""Focal loss: examples that are answered well already count less, so that many easy ones do not drown the hard few.

Source: Lin et al. 2017, "Focal loss for dense object detection", arXiv:1708.02002, without its class weights alpha,
which are a setting of their own.
"""

import torch

from whet.errors import ConfigError

LEAST = 1e-12
"""Below it a share of doubt is no smaller: the slope of a root is infinite at 0."""


def focus(right: torch.Tensor, gamma: float) -> torch.Tensor:
    """``(1 - p) ** gamma`` from the logarithm of p, the probability of what is right; of any shape."""
    return (-torch.expm1(right)).clamp(min=LEAST) ** gamma


def check_gamma(gamma: float) -> None:
    """Refuse a gamma that cannot work.

    Raises:
        ConfigError: it is below 0 or far too large.
    """
    if not 0 <= gamma <= 10:
        raise ConfigError(
            f"focal_gamma cannot be {gamma!r}.",
            where="task.focal_gamma",
            fix="use 0, which is off, or 1 to 5, such as 2",
        )

"""How far do two answers to the same rows differ? Zero where they are equal, differentiable, the same both ways."""

from collections.abc import Callable

from torch import Tensor

Divergence = Callable[[Tensor, Tensor], Tensor]
"""(B,) float, from two times outputs (B, K)."""


def between_classes(one: Tensor, other: Tensor) -> Tensor:
    """(B,) mean of both Kullback-Leibler divergences of softmaxes, from logits (B, K)."""
    first, second = one.log_softmax(1), other.log_softmax(1)
    return 0.5 * ((first.exp() - second.exp()) * (first - second)).sum(1)


def between_labels(one: Tensor, other: Tensor) -> Tensor:
    """(B,) the same of sigmoids, averaged over labels."""
    return 0.5 * ((one.sigmoid() - other.sigmoid()) * (one - other)).mean(1)


def between_numbers(one: Tensor, other: Tensor) -> Tensor:
    """(B,) squared difference of outputs (B, 1): a regression has no probabilities."""
    return (one - other).square().mean(1)

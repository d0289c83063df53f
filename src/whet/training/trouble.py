"""What if a loss or a gradient is not finite? It is never applied: back to the last snapshot, slower, then in float32.

The first time, the run returns to where it was up to 50 updates ago and goes on at half the rate. If the same update is
not finite again it is computed in float32 by the masters: under replay where they train themselves; without replay and
without dropout where a bfloat16 copy trains, since only the copy has these. If it still is not finite, the run stops
and names the rows and the first layer whose output is not.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from whet.errors import RunError
from whet.tasks.task import Batch

SNAPSHOT = 50
"""Updates between snapshots."""


class NotFiniteError(Exception):
    """An update whose loss or gradient is not finite; nothing of it was applied."""


@contextmanager
def with_gradients(model: nn.Module, names: Mapping[str, Tensor]) -> Iterator[dict[str, nn.Parameter]]:
    """The named parameters of the masters, asking for gradients meanwhile."""
    found = {name: parameter for name, parameter in model.named_parameters() if name in names}
    asked = {name: parameter.requires_grad for name, parameter in found.items()}
    for parameter in found.values():
        parameter.requires_grad_(True)
    try:
        yield found
    finally:
        for name, parameter in found.items():
            parameter.grad = None
            parameter.requires_grad_(asked[name])


def still_not_finite(
    model: nn.Module,
    window: list[Batch],
    forward: Callable[[Batch], object],
    row_ids: Callable[[Batch], list[int]],
) -> RunError:
    """The error for an update that is not finite in float32 either: its rows, and the first layer that goes wrong.

    Args:
        forward: Runs the model on a batch as its steps do, under replay where they are.
    """
    for batch in window:
        layer = first_bad_layer(model, partial(forward, batch))
        if layer:
            break
    rows = [row + 1 for one in ([batch] if layer else window) for row in row_ids(one)]
    what = (
        f"the first layer whose output is not finite is {layer!r}" if layer else "the output of every layer is finite"
    )
    return RunError(
        f"An update's loss or gradient is not finite, in float32 either; {what}.",
        where=f"training rows {', '.join(map(str, rows[:8]))}" + (" and others" if len(rows) > 8 else ""),
        fix="look at these rows, or choose a smaller training.learning_rate",
    )


@torch.no_grad()
def first_bad_layer(model: nn.Module, forward: Callable[[], object]) -> str:
    """The first module, in the order of a forward of the model, whose output is not finite; nothing if all are."""
    bad: list[str] = []

    def look(name: str, output: object) -> None:
        tensors = [output] if isinstance(output, Tensor) else output if isinstance(output, tuple | list) else []
        if any(isinstance(one, Tensor) and not bool(torch.isfinite(one).all()) for one in tensors):
            bad.append(name)

    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: look(name, output))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    return bad[0] if bad else ""

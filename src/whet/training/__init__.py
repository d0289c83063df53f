"""How it moves: loop, replay, cache, solver, optimizer, schedule, precision, checkpoints."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whet.training import averages as averages
    from whet.training import optimizers as optimizers


def __getattr__(name: str) -> Any:
    if name in ("averages", "optimizers"):
        return import_module(f"whet.training.{name}")
    raise AttributeError(f"module 'whet.training' has no attribute {name!r}")

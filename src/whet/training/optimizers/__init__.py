"""How an update is made of a gradient. ``whet.training.optimizers.SGD()``: every optimizer by its class name."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from whet import catalog

if TYPE_CHECKING:
    from whet.training.optimizers.adafactor import Adafactor as Adafactor
    from whet.training.optimizers.adamw import AdamW as AdamW
    from whet.training.optimizers.muon import Muon as Muon
    from whet.training.optimizers.schedule_free import ScheduleFree as ScheduleFree
    from whet.training.optimizers.sgd import SGD as SGD


def __getattr__(name: str) -> Any:
    for member in catalog.members("optimizer").values():
        module, _, attribute = member.path.partition(":")
        if attribute == name:
            return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'whet.training.optimizers' has no attribute {name!r}")

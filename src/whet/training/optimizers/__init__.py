"""How an update is made of a gradient. ``whet.training.optimizers.SGD()``: every optimizer by its class name."""

from typing import TYPE_CHECKING, Any

from whet import catalog

if TYPE_CHECKING:
    from whet.training.optimizers.adafactor import Adafactor as Adafactor
    from whet.training.optimizers.adamw import AdamW as AdamW
    from whet.training.optimizers.muon import Muon as Muon
    from whet.training.optimizers.schedule_free import ScheduleFree as ScheduleFree
    from whet.training.optimizers.sgd import SGD as SGD


def __getattr__(name: str) -> Any:
    return catalog.by_class("optimizer", name, __name__)

"""Which weights a stage ends with. ``whet.training.averages.EMA()``: every average by its class name."""

from typing import TYPE_CHECKING, Any

from whet import catalog

if TYPE_CHECKING:
    from whet.training.averages.ema import EMA as EMA
    from whet.training.averages.soup import Soup as Soup
    from whet.training.averages.swa import SWA as SWA
    from whet.training.averages.wise_ft import WiseFT as WiseFT


def __getattr__(name: str) -> Any:
    return catalog.by_class("average", name, __name__)

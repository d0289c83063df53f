"""Who else hears of a run? ``whet.trackers.Energy(country="FRA")``: every tracker of the catalog by its class name."""

from typing import TYPE_CHECKING, Any

from whet import catalog

if TYPE_CHECKING:
    from whet.trackers.csv_log import CsvLog as CsvLog
    from whet.trackers.energy import Energy as Energy
    from whet.trackers.tensorboard import TensorBoard as TensorBoard


def __getattr__(name: str) -> Any:
    return catalog.by_class("tracker", name, __name__)

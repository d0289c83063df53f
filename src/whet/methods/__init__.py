"""What may move, and when. ``whet.methods.TopLayers(2)``: every method of the catalog by its class name."""

from typing import TYPE_CHECKING, Any

from whet import catalog

if TYPE_CHECKING:
    from whet.methods.adapter import Adapter as Adapter
    from whet.methods.bias_only import BiasOnly as BiasOnly
    from whet.methods.contrastive import Contrastive as Contrastive
    from whet.methods.full import Full as Full
    from whet.methods.gradual import Gradual as Gradual
    from whet.methods.l2_sp import L2SP as L2SP
    from whet.methods.lora import LoRA as LoRA
    from whet.methods.norm_only import NormOnly as NormOnly
    from whet.methods.probe import Probe as Probe
    from whet.methods.reinit import Reinit as Reinit
    from whet.methods.top_layers import TopLayers as TopLayers


def __getattr__(name: str) -> Any:
    return catalog.by_class("method", name, __name__)

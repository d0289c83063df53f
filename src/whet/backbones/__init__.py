"""What we start from: a pre-trained module, where it can be cut, and where it came from.

``whet.backbones.Module(net, head="fc", side=96)`` makes a model of any ``torch.nn.Module``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whet.backbones.own_module import Module as Module


def __getattr__(name: str) -> Any:
    if name == "Module":
        from whet.backbones.own_module import Module

        return Module
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

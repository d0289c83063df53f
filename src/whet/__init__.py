"""Turn a pre-trained model and your own rows into a model for your task, with an honest verdict.

    import whet
    result = whet.finetune("tickets.csv", target="intent")
    result.verdict, result.predict(["where is my parcel?"])

Nothing heavy is imported until a name below is used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whet import backbones as backbones
    from whet import methods as methods
    from whet import trackers as trackers
    from whet import training as training
    from whet.api import Result as Result
    from whet.api import check as check
    from whet.api import evaluate as evaluate
    from whet.api import find_rate as find_rate
    from whet.api import finetune as finetune
    from whet.api import inspect as inspect
    from whet.api import load as load
    from whet.api import plan as plan
    from whet.api import predict as predict
    from whet.deploy.predictor import Predictor as Predictor
    from whet.errors import WhetError as WhetError
    from whet.training.settings import Training as Training

_PLACES = {
    "Predictor": "whet.deploy.predictor",
    "Result": "whet.api",
    "Training": "whet.training.settings",
    "WhetError": "whet.errors",
    "backbones": "whet.backbones",
    "check": "whet.api",
    "evaluate": "whet.api",
    "find_rate": "whet.api",
    "finetune": "whet.api",
    "inspect": "whet.api",
    "load": "whet.api",
    "methods": "whet.methods",
    "plan": "whet.api",
    "predict": "whet.api",
    "trackers": "whet.trackers",
    "training": "whet.training",
}

__all__ = [
    "Predictor",
    "Result",
    "Training",
    "WhetError",
    "backbones",
    "check",
    "evaluate",
    "find_rate",
    "finetune",
    "inspect",
    "load",
    "methods",
    "plan",
    "predict",
    "trackers",
    "training",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'whet' has no attribute {name!r}")
    module = import_module(_PLACES[name])
    return module if _PLACES[name] == f"whet.{name}" else getattr(module, name)


class _Package(ModuleType):
    """``whet.plan`` and ``whet.evaluate`` stay the verbs when the files of the same name are imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in ("plan", "evaluate") and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted(__all__)

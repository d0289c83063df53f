"""Any adapter of the peft library, inserted beside frozen layers, trained from the probe's head, and merged.

peft does the modules; whet decides which layers get one, trains them on its own loop, and merges them in float32, so
that what is packaged is a plain model again. Adapters that keep state between layers or add tokens cannot be
inserted this way and are refused.
"""

import json
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import nn

from whet.backbones.backbone import Backbone
from whet.errors import ConfigError, closest
from whet.methods.method import LEAST_STEPS, START, Descend, RateGroup, Solve, Stage, check_rates, require_some, within
from whet.numeric import require_numbers

LAYERS = ("attention", "all-linear")


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter by its config: ``Adapter.of(peft.LoHaConfig(r=8))``.

    Args:
        kind: peft's name of the adapter, such as "LOHA"; settings: what its config sets beyond the defaults.
        layers: "attention", "all-linear", or names of linear layers within a block, such as ["query", "value"].
        starts_equal: Whether the adapter starts as the identity; one that does not must say so.
        learning_rate: Of every inserted weight.
        epochs: Passes over the training rows at most.
        solve: How the head that it starts from is fitted.
    """

    kind: str = "LORA"
    settings: dict[str, Any] = field(default_factory=dict)
    layers: tuple[str, ...] = ("all-linear",)
    starts_equal: bool = True
    learning_rate: float = 1e-3
    epochs: int = 8
    solve: Solve = START
    stops: ClassVar[bool] = True
    least_steps: ClassVar[int] = LEAST_STEPS

    def __post_init__(self) -> None:
        require_numbers(self, "method")
        check_rates(1.0, self.learning_rate, self.epochs)

    def __hash__(self) -> int:
        return hash((self.kind, json.dumps(self.settings, sort_keys=True, default=str), self.layers))

    @staticmethod
    def of(config: Any, **settings: Any) -> "Adapter":
        """The method for a config object of peft; which layers it names is kept."""
        usual = type(config)().to_dict()
        plain = {name: value for name, value in config.to_dict().items() if value != usual[name]}
        plain = {name: sorted(value) if isinstance(value, set) else value for name, value in plain.items()}
        layers = plain.pop("target_modules", None)
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        named = {} if layers is None else {"layers": (layers,) if isinstance(layers, str) else tuple(sorted(layers))}
        return Adapter(kind=kind, settings=plain, **{**named, **settings})

    def prepare(self, backbone: Backbone) -> Backbone:
        return insert(backbone, config_of(self.kind, self.settings, chosen_layers(backbone, self.layers)))

    def stages(self, backbone: Backbone) -> list[Stage]:
        names = require_some("adapter weights", inserted(backbone))
        return [
            Stage(name="probe", fit=self.solve),
            Stage(name=self.kind.lower(), fit=Descend(), groups=(RateGroup(names=names),)),
        ]

    def finish(self, backbone: Backbone) -> Backbone:
        return merged(backbone)


def peft() -> Any:
    """The library.

    Raises:
        ConfigError: it is not installed, with the line to type.
    """
    try:
        import peft as library
    except ImportError as error:
        raise ConfigError("Adapters need the peft library.", where="method", fix="pip install 'whet[lora]'") from error
    return library


def config_of(kind: str, settings: dict[str, Any], layers: tuple[str, ...]) -> Any:
    """peft's config of a kind of adapter.

    Raises:
        ConfigError: peft has no such adapter, or no such setting.
    """
    kinds = {str(getattr(name, "value", name)): config for name, config in peft_kinds().items()}
    if kind not in kinds:
        near = closest(kind.upper(), list(kinds)) or sorted(kinds)
        raise ConfigError(f"peft has no adapter {kind!r}.", where="method.kind", fix="use " + " or ".join(near))
    try:
        return kinds[kind](target_modules=list(layers), **settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"peft refuses these settings of {kind}: {error}",
            where="method.settings",
            fix="see peft's documentation of this adapter",
        ) from error


def peft_kinds() -> dict[Any, Any]:
    """Every kind of adapter that the installed peft has, with its config class."""
    peft()
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    return dict(PEFT_TYPE_TO_CONFIG_MAPPING)


def chosen_layers(backbone: Backbone, layers: tuple[str, ...]) -> tuple[str, ...]:
    """Full names, within the body, of the linear layers of the blocks that get an adapter.

    Raises:
        ConfigError: there are none, with the nearest names.
    """
    linear = [
        name.removeprefix("body.")
        for name, module in backbone.model.named_modules()
        if isinstance(module, nn.Linear) and within(name, backbone.blocks)
    ]
    if not linear:
        raise ConfigError(
            "The model has no linear layers in blocks, so no adapter can be inserted.",
            where="method.layers",
            fix="use the method 'top-layers' or 'full'",
        )
    if layers == ("all-linear",):
        return tuple(linear)
    if layers == ("attention",):
        found = [name for name in linear if "attention" in name.lower() or "attn" in name.lower()]
    else:
        found = [name for name in linear if any(("." + name).endswith("." + layer) for layer in layers)]
        ends = sorted({name.rpartition(".")[2] for name in linear})
        for layer in layers:
            if not any(("." + name).endswith("." + layer) for name in linear):
                near = closest(layer, [*LAYERS, *ends]) or ends
                raise ConfigError(
                    f"No linear layer of the blocks is named {layer!r}.",
                    where="method.layers",
                    fix="use " + " or ".join(map(repr, near)),
                )
    if not found:
        raise ConfigError(
            "No linear layer of the blocks belongs to attention by its name.",
            where="method.layers",
            fix="use 'all-linear', or name layers: " + ", ".join(sorted({n.rpartition(".")[2] for n in linear})),
        )
    return tuple(found)


def insert(backbone: Backbone, config: Any) -> Backbone:
    """Put peft's modules into the body, in place.

    Raises:
        ConfigError: peft cannot insert this adapter into this model.
    """
    import torch

    library = peft()
    from whet.methods.low_rank import quickened

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same start when training and when loading
        try:
            library.inject_adapter_in_model(config, backbone.model.body)
        except (ValueError, TypeError, NotImplementedError, AttributeError) as error:
            raise ConfigError(
                f"peft cannot insert this adapter: {str(error).splitlines()[0]}",
                where="method",
                fix="choose an adapter that peft can inject and merge, such as LoRA",
            ) from error
    quickened(backbone.model.body)
    return replace(backbone)


def inserted(backbone: Backbone) -> list[str]:
    """Names of the parameters that peft put in."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    prefixes = [
        f"{name}.{part}"
        for name, module in backbone.model.named_modules()
        if isinstance(module, BaseTunerLayer)
        for part in module.adapter_layer_names
    ]
    return [name for name, _ in backbone.model.named_parameters() if within(name, tuple(prefixes))]


def merged(backbone: Backbone) -> Backbone:
    """The backbone with every adapter added into the layer beside it, in place, in float32.

    Raises:
        ConfigError: an adapter cannot be merged.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = backbone.model
    for name, module in list(model.named_modules()):
        if not isinstance(module, BaseTunerLayer):
            continue
        try:
            module.merge(safe_merge=True)
        except (ValueError, NotImplementedError, AttributeError) as error:
            raise ConfigError(
                f"The adapter of {name!r} cannot be merged: {error}",
                where="method",
                fix="choose an adapter that can, such as LoRA",
            ) from error
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, module.get_base_layer())
    return replace(backbone)

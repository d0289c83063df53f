"""Any ``torch.nn.Module`` of the user's own, given as an object from Python.

    net = MyNet()
    net.load_state_dict(...)
    whet.finetune("photos/", model=whet.backbones.Module(net, head="fc", blocks=("stage1", "stage2"), side=96))
    whet.load("runs/photos-1", model=net)

Its weights are written to a model folder like any other's; its code is not, for none is ever kept or run from a file.
So whoever goes on with such a run, or asks its model, gives the object again: a module of the same class and shapes.
"""

import copy
import inspect
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from whet.backbones.backbone import Backbone, HeadedModel, Meaning
from whet.backbones.convnet import PROCESSOR, processor_config
from whet.backbones.convnets.architecture import Pictures
from whet.backbones.describe import describe, feature_width, folded_head
from whet.errors import ConfigError, ModelError, closest
from whet.modalities.model_folder import read_json, write_json

MODEL_TYPE = "whet-module"
WEIGHTS, CONFIG = "model.safetensors", "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json",
              "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model")  # fmt: skip
_GIVEN: dict[str, nn.Module] = {}
"""What was given in this process, by ``identity``: a model's code is in no folder."""


@dataclass(frozen=True, eq=False)
class Module:
    """A network, and what its weights cannot tell.

    Args:
        net: Called with the inputs by name, or in order where its ``forward`` has other names; gives (B, K) answers.
        head: Name of its last linear layer, which is replaced; what goes into it are the features.
        blocks: Names of the parts that pictures or texts pass one after another, from the bottom; none are looked for.
        side: Of the square pictures that it reads, in pixels; mean and std: how these are normalised.
        processor: A model folder whose tokenizer or image processor it was trained with, in place of ``side``.
    """

    net: nn.Module
    head: str
    blocks: tuple[str, ...] = ()
    side: int | None = None
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    processor: str | Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.net, nn.Module):
            raise ConfigError(
                f"A model is a torch.nn.Module, not {type(self.net).__name__}.", where="model", fix="give the module"
            )
        if (self.side is None) == (self.processor is None):
            raise ConfigError(
                "Nothing says how inputs become tensors for this model."
                if self.side is None
                else "Both side and processor say how inputs become tensors.",
                where="model",
                fix="name the side of its pictures, or a model folder whose processor it was trained with",
            )
        if self.side is not None and (self.side < 1 or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0):
            raise ConfigError(
                f"Pictures of {self.side} pixels, normalised by {self.mean} and {self.std}, cannot be made.",
                where="model",
                fix="use a side of 1 or more, and three means and three deviations above 0",
            )
        names = dict(self.net.named_modules())
        for name in (self.head, *self.blocks):
            if name not in names:
                raise near(name, list(names), type(self.net))
        if not isinstance(names[self.head], nn.Linear):
            raise ConfigError(
                f"The head {self.head!r} is a {type(names[self.head]).__name__}, not a linear layer.",
                where="model",
                fix=f"name one of {', '.join(map(repr, linears(self.net)[-3:])) or 'its linear layers'}",
            )

    def written(self, cache: Path) -> Path:
        """A model folder for it, in the cache; the object is remembered as long as the process lives."""
        give(self.net)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.net.state_dict().items()}
        config = {
            "model_type": MODEL_TYPE, "architectures": [type(self.net).__name__], "identity": identity(self.net),
            "head": self.head, "blocks": list(self.blocks), "num_channels": len(self.mean),
        }  # fmt: skip
        digest = xxhash.xxh3_128(json.dumps([config, self.side, self.mean, self.std], sort_keys=True).encode())
        for path in () if self.processor is None else held_processor(Path(self.processor).expanduser()):
            digest.update(path.name.encode() + path.read_bytes())
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode())
            digest.update(tensor.view(torch.uint8).numpy().data if tensor.numel() and tensor.dim() else b"")
        place = cache / "given" / digest.hexdigest()
        if not place.exists():
            beside = place.with_name(f".{place.name}.{os.getpid()}")
            try:
                self._write(beside, config, tensors)
                with suppress(OSError):  # another run was as quick
                    beside.rename(place)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        return place

    def _write(self, folder: Path, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> None:
        folder.mkdir(parents=True)
        write_json(folder / CONFIG, config)
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, str(folder / WEIGHTS))
        if self.processor is not None:
            copy_processor(Path(self.processor).expanduser(), folder)
            return
        assert self.side is not None
        write_json(folder / PROCESSOR, processor_config(Pictures(self.side, None, self.mean, self.std)))


@dataclass(frozen=True, kw_only=True)
class OwnModule:
    """How a module that was given as an object is loaded: a copy of it, filled with the weights of its folder."""

    library: ClassVar[str] = "torch"
    portable: ClassVar[bool] = False

    def python(self, folder: str, example: Sequence[str], meaning: Meaning) -> str:
        """No library has its code."""
        return ""

    def recognise(self, folder: Path, modality: str) -> float:
        return 1.0 if read_json(folder / CONFIG).get("model_type") == MODEL_TYPE else 0.0

    def adopt(self, file: Path, place: Path) -> bool:
        """Tensors alone name no class."""
        return False

    def load(self, folder: Path, *, outputs: int, seed: int) -> Backbone:
        """The module with a new head.

        Raises:
            ModelError: nobody gave it in this process.
        """
        config = read_json(folder / CONFIG)
        net = filled(config, load_file(folder / WEIGHTS), folder)
        example = example_of(folder)
        require_last(net, config["head"], example)
        body = OwnBody(net, config["head"])
        model = HeadedModel(body, feature_width(body, example, "its inputs"), outputs).eval()
        blocks = tuple(f"body.net.{name}" for name in config["blocks"])
        found = describe(model, (), example, ragged=False, blocks=blocks)
        return replace(found, arithmetic=config["identity"])

    def save(
        self, model: HeadedModel, folder: Path, *, source: Path, meaning: Meaning, max_length: int | None = None
    ) -> None:
        """The tensors under their own names, the head where it was, scaler folded in."""
        config = read_json(source / CONFIG)
        assert isinstance(model.body, OwnBody)
        head = {f"{config['head']}.{name}": tensor for name, tensor in folded_head(model).state_dict().items()}
        tensors = model.body.net.state_dict() | head
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, str(folder / WEIGHTS))
        write_json(folder / CONFIG, config | {"id2label": dict(enumerate(meaning.labels or ("value",)))})
        copy_processor(source, folder)

    def reload(self, folder: Path) -> HeadedModel:
        """What ``save`` wrote.

        Raises:
            ModelError: nobody gave the module in this process.
        """
        config, tensors = read_json(folder / CONFIG), load_file(folder / WEIGHTS)
        outputs, width = tensors[f"{config['head']}.weight"].shape
        body = OwnBody(filled(config, tensors, folder), config["head"])
        model = HeadedModel(body, width, outputs)
        model.head.weight.data = tensors[f"{config['head']}.weight"].float()
        bias = tensors.get(f"{config['head']}.bias")
        model.head.bias.data = torch.zeros(outputs) if bias is None else bias.float()
        return model.eval()


class OwnBody(nn.Module):
    """A module without its head: returns what went into it."""

    pooled = "as the module's own head reads it"

    def __init__(self, net: nn.Module, head: str) -> None:
        super().__init__()
        self.net = net
        parent, _, leaf = head.rpartition(".")
        setattr(net.get_submodule(parent), leaf, nn.Identity())

    def forward(self, **inputs: Tensor) -> Tensor:
        return answered(self.net, inputs).float()


def give(net: nn.Module) -> None:
    """Remember a module for folders that were written from one of its class and shapes."""
    _GIVEN[identity(net)] = net


def identity(net: nn.Module) -> str:
    """Class, names and shapes: what a folder's weights fit; the last layer may have any number of outputs."""
    sizes = [(name, tuple(tensor.shape)) for name, tensor in net.state_dict().items()]
    last = f"{linears(net)[-1]}." if linears(net) else "-"
    shapes = [(name, shape) for name, shape in sizes if not name.startswith(last)]
    digest = xxhash.xxh3_64_hexdigest(repr(shapes).encode())
    return f"{type(net).__module__}.{type(net).__qualname__} {digest}"


def filled(config: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> nn.Module:
    """A copy of the module that was given, with these weights but for its head's."""
    given = _GIVEN.get(config["identity"])
    if given is None:
        name = str(config["identity"]).split(" ", 1)[0]
        raise ModelError(
            f"The model is a module of the class {name}, whose code is in no file.",
            where=str(folder),
            fix="give the object again, in Python: whet.load(run, model=net), or model=whet.backbones.Module(net, ...)",
        )
    net = copy.deepcopy(given)
    own = net.state_dict()
    head = f"{config['head']}."
    net.load_state_dict({name: own[name] if name.startswith(head) else tensors[name] for name in own})
    return net.float().cpu().eval()


def example_of(folder: Path) -> dict[str, Tensor]:
    """A tiny batch: two pictures of noise, or two texts."""
    from whet.modalities.image_processor import CONFIGS, INPUT, image_processor

    if any((folder / name).is_file() for name in CONFIGS):
        shape = image_processor(folder, pairs=False).shape
        return {INPUT: torch.randn((2, *shape), generator=torch.Generator().manual_seed(0))}
    from whet.modalities.text import Text

    processor = Text().processor(folder, max_length=None, pairs=False)
    return dict(processor.collate(processor.encode([("one text",), ("one more",)]).inputs))


def copy_processor(source: Path, folder: Path) -> None:
    """What says how inputs become tensors.

    Raises:
        ModelError: nothing there does.
    """
    for path in held_processor(source):
        shutil.copyfile(path, folder / path.name)


def held_processor(source: Path) -> list[Path]:
    """The files that say how inputs become tensors.

    Raises:
        ModelError: there is none.
    """
    held = [source / name for name in PROCESSORS if (source / name).is_file()]
    if not held:
        raise ModelError(
            "The folder has neither a tokenizer nor an image processor.",
            where=str(source),
            fix="name the folder of the model whose processor this one was trained with",
        )
    return held


def require_last(net: nn.Module, head: str, example: Mapping[str, Tensor]) -> None:
    """What the head gives must be what the module answers, or its answers would not be those of the tuned one.

    Raises:
        ModelError: something follows the head.
    """
    seen: list[Tensor] = []
    hook = net.get_submodule(head).register_forward_hook(lambda _, args, out: seen.append(out))
    try:
        with torch.no_grad():
            answer = answered(net, example)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"The module cannot be asked: {type(error).__name__}: {str(error).splitlines()[0]}",
            where=type(net).__name__,
            fix="see that it takes its inputs by name, or in order",
        ) from error
    finally:
        hook.remove()
    if len(seen) != 1 or seen[0].shape != answer.shape or not torch.equal(seen[0].float(), answer.float()):
        raise ModelError(
            f"The module does something after {head!r}, or calls it more or less often than once.",
            where=type(net).__name__,
            fix="name its last layer, and let the module answer with what that gives (no softmax behind it)",
        )


def answered(net: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """What a module gives for inputs, by name where it knows their names, else in order."""
    taken = inspect.signature(net.forward).parameters.values()
    any_name = any(one.kind == one.VAR_KEYWORD for one in taken)
    by_name = any_name or set(inputs) <= {one.name for one in taken}
    found = net(**inputs) if by_name else net(*inputs.values())
    found = found[0] if isinstance(found, tuple | list) else found
    answer: Tensor = getattr(found, "logits", found)
    return answer


def linears(net: nn.Module) -> list[str]:
    """Names of the linear layers, in order."""
    return [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]


def near(name: str, names: Sequence[str], kind: type) -> ConfigError:
    """The error for a part that is not there."""
    found = closest(name, list(names)) or [one for one in names if one and "." not in one]
    return ConfigError(
        f"The {kind.__name__} has no part called {name!r}.",
        where="model",
        fix="name one of " + ", ".join(map(repr, found[:6])),
    )

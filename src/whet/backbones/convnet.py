"""Bare state dicts of convolutional networks: recognised by names and shapes, given a folder, tuned and written back.

A file of tensors says neither which network it is nor how pictures are given to it. ``adopt`` finds out and writes a
model folder, never beside the user's files: config, image processor and the tensors as they are. A tuned network is
written with the same names, its new last layer where the old one was, so that torchvision loads it where it knows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from whet import catalog
from whet.backbones.backbone import Backbone, HeadedModel, Meaning
from whet.backbones.channels import read_channels
from whet.backbones.convnets.architecture import Architecture, Pictures, Shapes
from whet.backbones.describe import describe, feature_width, folded_head
from whet.backbones.weights import read_header, read_tensors
from whet.errors import ModelError
from whet.modalities.model_folder import read_json, write_json

MODEL_TYPE = "whet-convnet"
WEIGHTS = "model.safetensors"
PROCESSOR = "preprocessor_config.json"
INPUT = "pixel_values"
CHANNELS = "num_channels"
SEVERAL = "module."
"""What training on several devices puts before every name."""


@dataclass(frozen=True, kw_only=True)
class ConvNet:
    """How a bare network is loaded.

    Args:
        dropout: Before the last layer, while training; None keeps that of the architecture.
        channels: Of the pictures; None is what it was trained on, for any other number its first layer is adapted.
    """

    dropout: float | None = None
    channels: int | None = None
    library: ClassVar[str] = "torch"
    portable: ClassVar[bool] = True

    def python(self, folder: str, example: Sequence[str], meaning: Meaning) -> str:
        """By torchvision, where it has the network; pictures are given to it as ``preprocessor_config.json`` says."""
        place = Path(folder).expanduser()
        if not (place / WEIGHTS).is_file():
            return ""
        found = architecture_in(place)
        if not found.loads:
            return ""
        return (
            "import torchvision\nfrom safetensors.torch import load_file\n\n"
            f'tensors = load_file("{folder}/{WEIGHTS}")\nclasses = len(tensors["{found.head}.weight"])\n'
            f"model = {found.loads}\nmodel.load_state_dict(tensors)\nmodel.eval()"
        )

    def recognise(self, folder: Path, modality: str) -> float:
        if modality != "image":
            return 0.0
        return 1.0 if read_json(folder / "config.json").get("model_type") == MODEL_TYPE else 0.0

    def adopt(self, file: Path, place: Path) -> bool:
        """Write a model folder for a bare file of tensors; False where they are of no network that is known.

        Raises:
            ModelError: the file is damaged, or holds more than tensors.
        """
        tensors = {name.removeprefix(SEVERAL): tensor for name, tensor in read_tensors(file).items()}
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        found = recognised(shapes)
        if found is None:
            return False
        name, architecture = found
        last = tensors.get(f"{architecture.head}.weight")
        place.mkdir(parents=True)
        config = {"model_type": MODEL_TYPE, "architectures": [type(architecture).__name__], "architecture": name}
        known = {"classes": None if last is None else len(last), CHANNELS: architecture.channels}
        write_json(place / "config.json", config | known)
        write_json(place / PROCESSOR, processor_config(architecture.pictures))
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(place / WEIGHTS))
        return True

    def load(self, folder: Path, *, outputs: int, seed: int) -> Backbone:
        """The network in ``folder`` with a new head.

        Raises:
            ModelError: its tensors are of no network that is known.
        """
        architecture = architecture_in(folder)
        body = filled(architecture, load_file(folder / WEIGHTS))
        if self.channels is not None:
            read_channels(body, self.channels, str(folder))
        for module in body.modules():
            if isinstance(module, nn.Dropout) and self.dropout is not None:
                module.p = self.dropout
        side = architecture.pictures.side
        channels = self.channels or architecture.channels
        example = {INPUT: torch.randn((2, channels, side, side), generator=torch.Generator().manual_seed(0))}
        model = HeadedModel(body, feature_width(body, example, "pixels"), outputs).eval()
        digest = xxhash.xxh3_128_hexdigest((folder / "config.json").read_bytes())
        return replace(describe(model, (), example, ragged=False), arithmetic=digest)

    def save(
        self, model: HeadedModel, folder: Path, *, source: Path, meaning: Meaning, max_length: int | None = None
    ) -> None:
        """The tensors under the names that they came with, the head where the last layer was, scaler folded in."""
        architecture = architecture_in(source)
        head = {f"{architecture.head}.{name}": tensor for name, tensor in folded_head(model).state_dict().items()}
        body = {name: tensor.detach().cpu().contiguous() for name, tensor in model.body.state_dict().items()}
        folder.mkdir(parents=True, exist_ok=True)
        save_file(body | {name: tensor.cpu().contiguous() for name, tensor in head.items()}, str(folder / WEIGHTS))
        labels = meaning.labels or ("value",)
        config = read_json(source / "config.json") | {"classes": len(labels)}
        config |= {CHANNELS: architecture_in(folder).channels}
        write_json(folder / "config.json", config | {"id2label": dict(enumerate(labels))})
        write_json(folder / PROCESSOR, read_json(source / PROCESSOR))

    def reload(self, folder: Path) -> HeadedModel:
        """What ``save`` wrote."""
        architecture, tensors = architecture_in(folder), load_file(folder / WEIGHTS)
        outputs, width = tensors[f"{architecture.head}.weight"].shape
        model = HeadedModel(filled(architecture, tensors), width, outputs)
        model.head.load_state_dict({name: tensors[f"{architecture.head}.{name}"] for name in ("weight", "bias")})
        return model.eval()


def recognised(shapes: Shapes) -> tuple[str, Architecture] | None:
    """The architecture that has these tensors, and its name."""
    for name in catalog.members("architecture"):
        found: Architecture | None = catalog.find("architecture", name).of(shapes)
        if found is not None:
            return name, found
    return None


def architecture_in(folder: Path) -> Architecture:
    """The architecture of the tensors in a folder; only their header is read.

    Raises:
        ModelError: none has such tensors.
    """
    table = read_header(folder / WEIGHTS)
    found = recognised({name: tuple(entry["shape"]) for name, entry in table.items()})
    if found is None:
        raise ModelError(
            "The tensors are of no network that whet knows.", where=str(folder), fix="restore the model folder"
        )
    return found[1]


def filled(architecture: Architecture, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The body with its tensors, in float32 and evaluation mode."""
    body = architecture.body()
    own = body.state_dict()
    body.load_state_dict({name: tensors.get(name, own[name]) for name in own})
    return body.float().eval()


def processor_config(pictures: Pictures) -> dict[str, Any]:
    """How the transformers library's image processors are told to give pictures."""
    sized: dict[str, Any] = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": pictures.side, "width": pictures.side},
    }
    if pictures.shorter is not None:
        sized = {
            "image_processor_type": "MobileNetV2ImageProcessor",
            "size": {"shortest_edge": pictures.shorter},
            "do_center_crop": True,
            "crop_size": {"height": pictures.side, "width": pictures.side},
        }
    return sized | {
        "do_resize": True, "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": list(pictures.mean), "image_std": list(pictures.std),
    }  # fmt: skip

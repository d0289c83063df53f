"""Image classifiers of the transformers library: their own head is replaced, and they are written back in its layout.

Convolutional networks (ResNet, MobileNet, ConvNeXt, RegNet, EfficientNet, ...) and transformers (ViT, DeiT, Swin, BEiT,
DINOv2, ...) alike: everything before the last linear layer is the body, so each keeps its family's own pooling.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import xxhash
from torch import Tensor, nn

from whet.backbones.backbone import Backbone, HeadedModel, Meaning
from whet.backbones.channels import read_channels
from whet.backbones.describe import describe, feature_width, folded_head
from whet.backbones.native import NativeBody, last_linear, with_own_head
from whet.backbones.text_layout import quiet_transformers, save_native
from whet.errors import ModelError
from whet.modalities.image_processor import CONFIGS, INPUT, image_processor
from whet.modalities.model_folder import read_json, transformer_folder

CLASSIFIER = "AutoModelForImageClassification"
DROPOUTS = ("hidden_dropout_prob", "classifier_dropout_prob", "dropout_rate", "hidden_dropout", "drop_rate")
"""What configs call the dropout of hidden states."""
ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")
KEEPS = ("mobilenet_v1", "mobilenet_v2")
"""Families whose default dropout is a probability to keep, read as one to drop."""


@dataclass(frozen=True, kw_only=True)
class ImageEncoder:
    """How an image classifier is loaded.

    Args:
        attention: Kernel of those that have attention.
        dropout: On hidden states while training; None keeps what the model states.
        attention_dropout: On attention weights; zero by default, as for text.
        channels: Of the pictures; None is what it was trained on, for any other number its first layer is adapted.
    """

    attention: Literal["eager", "sdpa"] = "sdpa"
    dropout: float | None = None
    attention_dropout: float = 0.0
    channels: int | None = None
    library: ClassVar[str] = "transformers"
    portable: ClassVar[bool] = True

    def python(self, folder: str, example: Sequence[str], meaning: Meaning) -> str:
        if self.channels not in (None, 3):
            return ""  # the library makes three channels of every picture
        top = f'from transformers import pipeline\n\nclassify = pipeline("image-classification", model={folder!r})\n'
        return f'{top}classify("{example[0]}")'

    def recognise(self, folder: Path, modality: str) -> float:
        """Surely where the config names an image classifier, perhaps where a processor of images lies beside it."""
        inner = transformer_folder(folder)
        if modality != "image" or not (inner / "config.json").is_file():
            return 0.0
        named = read_json(inner / "config.json").get("architectures") or []
        if any(str(name).endswith("ForImageClassification") for name in named):
            return 0.9
        return 0.5 if any((inner / name).is_file() for name in CONFIGS) else 0.0

    def adopt(self, file: Path, place: Path) -> bool:
        """Tensors alone do not tell how a model of the transformers library is built."""
        return False

    def load(self, folder: Path, *, outputs: int, seed: int) -> Backbone:
        """The classifier in ``folder`` with a new head; parameters it lacks are drawn from ``seed``.

        Raises:
            ModelError: the folder holds none, its weights do not fit its config, or it is damaged.
        """
        inner = transformer_folder(folder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            classifier, missing = self._classifier(inner, outputs)
        if self.channels is not None:
            read_channels(classifier, self.channels, str(inner))
        name = last_linear(classifier, outputs, inner)
        lacking = [key for key in missing if not key.startswith(name + ".")]
        body = NativeBody(classifier, name)
        example = self._example(classifier, inner)
        model = HeadedModel(body, feature_width(body, example, "pixels"), outputs).eval()
        created = tuple(f"body.model.{key}" for key in lacking if key in dict(classifier.named_parameters()))
        described = describe(model, created, example, ragged=False)
        return replace(described, arithmetic=arithmetic_of(inner, classifier))

    def save(
        self, model: HeadedModel, folder: Path, *, source: Path, meaning: Meaning, max_length: int | None = None
    ) -> None:
        """The classifier with the tuned head, and the source's image processor."""
        adapted = {} if self.channels is None else {"num_channels": self.channels}
        save_native(model, folded_head(model), folder, source, meaning, **adapted)
        for name in CONFIGS:
            if (transformer_folder(source) / name).is_file():
                shutil.copyfile(transformer_folder(source) / name, folder / name)

    def reload(self, folder: Path) -> HeadedModel:
        """What ``save`` wrote."""
        outputs = len(read_json(folder / "config.json")["id2label"])
        classifier, missing = self._classifier(folder, outputs)
        return with_own_head(classifier, missing, outputs, folder)

    def _classifier(self, folder: Path, outputs: int) -> tuple[nn.Module, tuple[str, ...]]:
        import transformers
        from transformers import AutoConfig

        with quiet_transformers():
            try:
                config = AutoConfig.from_pretrained(str(folder), num_labels=outputs)
                self._set_dropout(config, read_json(folder / "config.json"))
                model, info = getattr(transformers, CLASSIFIER).from_pretrained(
                    str(folder),
                    config=config,
                    attn_implementation=self.attention,
                    dtype=torch.float32,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                )
            except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
                if self.attention == "sdpa" and "scaled_dot_product" in str(error):
                    return replace(self, attention="eager")._classifier(folder, outputs)
                raise ModelError(
                    f"The model cannot be loaded as an image classifier: {str(error).splitlines()[0]}",
                    where=str(folder),
                    fix="choose a model for images; `whet models` lists what is here",
                ) from error
        missing = {*info["missing_keys"], *(entry[0] for entry in info.get("mismatched_keys", ()))}
        return model.eval(), tuple(sorted(missing))

    def _set_dropout(self, config: Any, stated: dict[str, Any]) -> None:
        if config.model_type in KEEPS and "classifier_dropout_prob" not in stated:
            config.classifier_dropout_prob = round(1.0 - config.classifier_dropout_prob, 6)
        for name in ATTENTION_DROPOUTS:
            if hasattr(config, name):
                setattr(config, name, self.attention_dropout)
        for name in DROPOUTS if self.dropout is not None else ():
            if hasattr(config, name):
                setattr(config, name, self.dropout)

    def _example(self, classifier: nn.Module, folder: Path) -> dict[str, Tensor]:
        """Two pictures of noise in the size that the model is given."""
        shape = image_processor(folder, pairs=False, channels=self.channels).shape
        return {INPUT: torch.randn((2, *shape), generator=torch.Generator().manual_seed(0))}


def arithmetic_of(folder: Path, model: nn.Module) -> str:
    """A hash of the config and of the attention kernel that is really used."""
    kernels = {getattr(getattr(part, "config", None), "_attn_implementation", None) for part in model.modules()}
    digest = xxhash.xxh3_128(f"{sorted(map(str, kernels))}".encode())
    digest.update((folder / "config.json").read_bytes())
    return digest.hexdigest()

"""Transformers encoders for text: loaded from a folder, pooled or with their own head, written back in standard layout.

A folder of the sentence-transformers library keeps the modules it states; any other encoder is pooled by the mean
over tokens, or keeps its family's own classification head (``head="native"``). Encoder-decoders are
for generation and are not loaded here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import xxhash
from torch import Tensor, nn

from whet.backbones.backbone import Backbone, HeadedModel, Meaning
from whet.backbones.cut import find_chain
from whet.backbones.describe import describe, feature_width, folded_head
from whet.backbones.dropout import quicken
from whet.backbones.first_token import trim_last_block
from whet.backbones.native import NativeBody, last_linear, with_own_head
from whet.backbones.pooling import PooledBody, fill, read_modules
from whet.backbones.text_layout import (
    python_native,
    python_pooled,
    quiet_transformers,
    save_native,
    save_pooled,
    write_tokenizer,
)
from whet.errors import ConfigError, ModelError
from whet.modalities.model_folder import read_json, transformer_folder

DROPOUTS = (
    "hidden_dropout_prob", "dropout", "hidden_dropout", "embedding_dropout", "mlp_dropout", "resid_pdrop", "embd_pdrop",
    "dropout_rate", "activation_dropout", "pooler_dropout", "classifier_dropout", "classifier_dropout_prob",
    "seq_classif_dropout",
)  # fmt: skip
"""What configs call the dropout of hidden states."""
ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout", "attn_dropout")


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """How an encoder is loaded.

    Args:
        head: "pooled": pooling and one linear layer; "native": the family's own classification head.
        attention: Kernel; "eager" is fastest on short texts, "sdpa" fuses and saves memory on long ones.
        dropout: On hidden states while training; None keeps what the model states.
        attention_dropout: On attention weights. Zero by default: it costs a quarter of a step on a processor and
            the score does not change measurably on the benchmark's sets.
    """

    head: Literal["pooled", "native"] = "pooled"
    attention: Literal["eager", "sdpa"] = "sdpa"
    dropout: float | None = None
    attention_dropout: float = 0.0
    portable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.head not in ("pooled", "native"):
            raise ConfigError(
                f"There is no head {self.head!r}.", where="backbone.head", fix="choose 'pooled' or 'native'"
            )

    @property
    def library(self) -> str:
        return "transformers" if self.head == "native" else "sentence-transformers"

    def python(self, folder: str, example: Sequence[str], meaning: Meaning) -> str:
        return (python_native if self.head == "native" else python_pooled)(folder, example, meaning)

    def recognise(self, folder: Path, modality: str) -> float:
        return 0.5 if modality == "text" and (transformer_folder(folder) / "config.json").is_file() else 0.0

    def adopt(self, file: Path, place: Path) -> bool:
        """Tensors alone do not tell how a model of the transformers library is built."""
        return False

    def load(self, folder: Path, *, outputs: int, seed: int) -> Backbone:
        """The encoder in ``folder`` with a new head; parameters it lacks are drawn from ``seed``.

        Raises:
            ModelError: the folder holds no encoder, its weights do not fit its config, or it is damaged.
        """
        inner = transformer_folder(folder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            body, created = self._pooled(folder, inner) if self.head == "pooled" else self._native(inner, outputs)
        quicken(body)
        width = feature_width(body, probe_input(), "token ids")
        model = HeadedModel(body, width, outputs).eval()
        chain = find_chain(body) if self.head == "native" else ()
        if chain:
            trim_last_block(body, chain[-1], probe_input())
        described = describe(model, tuple(f"body.{name}" for name in created), probe_input(), ragged=True)
        return replace(described, arithmetic=arithmetic_of(folder, inner, model, self.head))

    def save(
        self, model: HeadedModel, folder: Path, *, source: Path, meaning: Meaning, max_length: int | None = None
    ) -> None:
        """A transformers classifier (native) or a sentence-transformers folder (pooled), scaler folded in.

        ``max_length`` is where plain loading truncates; None keeps what the source states.
        """
        head = folded_head(model)
        if self.head == "native":
            save_native(model, head, folder, source, meaning)
            write_tokenizer(folder, transformer_folder(source), max_length)
        else:
            save_pooled(model, head, folder, source, max_length)

    def reload(self, folder: Path) -> HeadedModel:
        """What ``save`` wrote."""
        if self.head == "native":
            return self._reload_native(folder)
        listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        encoder = self._encoder(folder / listed[0]["path"], "AutoModel")[0]
        pooling, layers, _places = read_modules(folder, last=len(listed) - 1)
        config = read_json(folder / listed[-1]["path"] / "config.json")
        model = HeadedModel(PooledBody(encoder, pooling, layers), config["in_features"], config["out_features"])
        fill(model.head, folder / listed[-1]["path"], "linear.")
        return model.eval()

    def _reload_native(self, folder: Path) -> HeadedModel:
        outputs = len(read_json(folder / "config.json")["id2label"])
        classifier, missing = self._encoder(folder, "AutoModelForSequenceClassification", num_labels=outputs)
        return with_own_head(classifier, missing, outputs, folder)

    def _pooled(self, root: Path, inner: Path) -> tuple[nn.Module, tuple[str, ...]]:
        encoder, missing = self._encoder(inner, "AutoModel")
        pooling, layers, _ = read_modules(root)
        for layer in layers:
            if isinstance(layer, nn.Dropout) and self.dropout is not None:
                layer.p = self.dropout
        unused_pooler = [name for name in missing if not name.startswith("pooler.")]
        if unused_pooler:
            raise ModelError(
                f"The weights lack {len(unused_pooler)} tensors that the model needs, first {unused_pooler[0]!r}.",
                where=str(inner),
                fix="fetch the model folder again; a folder of another architecture needs its own config.json",
            )
        return PooledBody(encoder, pooling, layers), ()

    def _native(self, inner: Path, outputs: int) -> tuple[nn.Module, tuple[str, ...]]:
        classifier, missing = self._encoder(inner, "AutoModelForSequenceClassification", num_labels=outputs)
        name = last_linear(classifier, outputs, inner)
        body = NativeBody(classifier, name)
        return body, tuple(f"model.{key}" for key in missing if not key.startswith(name + "."))

    def _encoder(self, folder: Path, auto: str, **options: Any) -> tuple[nn.Module, tuple[str, ...]]:
        import transformers
        from transformers import AutoConfig

        with quiet_transformers():
            try:
                config = AutoConfig.from_pretrained(str(folder), **options)
                if getattr(config, "is_encoder_decoder", False):
                    raise ValueError(f"a {config.model_type} model is an encoder-decoder")
                self._set_dropout(config)
                model, info = getattr(transformers, auto).from_pretrained(
                    str(folder),
                    config=config,
                    attn_implementation=self.attention,
                    dtype=torch.float32,
                    output_loading_info=True,
                    ignore_mismatched_sizes=auto != "AutoModel",
                )
            except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
                if self.attention == "sdpa" and "scaled_dot_product" in str(error):
                    return replace(self, attention="eager")._encoder(folder, auto, **options)
                raise ModelError(
                    f"The model cannot be loaded as a text encoder: {str(error).splitlines()[0]}",
                    where=str(folder),
                    fix="choose an encoder such as all-MiniLM-L6-v2; `whet models` lists what is here",
                ) from error
        missing = {*info["missing_keys"], *(entry[0] for entry in info.get("mismatched_keys", ()))}
        return model.eval(), tuple(sorted(missing))

    def _set_dropout(self, config: Any) -> None:
        for name in ATTENTION_DROPOUTS:
            if hasattr(config, name):
                setattr(config, name, self.attention_dropout)
        for name in DROPOUTS if self.dropout is not None else ():
            if hasattr(config, name):
                setattr(config, name, self.dropout)


def arithmetic_of(folder: Path, inner: Path, model: nn.Module, head: str) -> str:
    """A hash of the configs that a folder states, the head, and the attention kernel that is really used."""
    stated = {folder / "modules.json", inner / "config.json", *folder.glob("*/config.json")}
    kernels = {getattr(getattr(part, "config", None), "_attn_implementation", None) for part in model.modules()}
    digest = xxhash.xxh3_128(f"{head} {sorted(map(str, kernels))}".encode())
    for path in sorted(path for path in stated if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def probe_input() -> dict[str, Tensor]:
    """A tiny batch that any text encoder takes."""
    return {"input_ids": torch.tensor([[5, 6, 7, 8]])}

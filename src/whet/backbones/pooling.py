"""Hidden states of tokens to one vector: the modules that a sentence-embedding folder states, or the mean.

Reads the layout of the sentence-transformers library (modules.json and one folder a module) and computes the
same numbers; weights come from safetensors or torch's weights-only reader.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whet.backbones.weights import RECORD, read_tensors
from whet.errors import ModelError
from whet.modalities.model_folder import read_json

MODES = ("cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


class Pooling(nn.Module):
    """Pools over tokens that are not padding; several modes are concatenated.

    Shapes:
        hidden: (B, T, C) float32; mask: (B, T) of 1 and 0, or None when nothing is padded. Returns (B, C x modes).
    """

    def __init__(self, modes: tuple[str, ...] = ("mean",)) -> None:
        super().__init__()
        self.modes = modes

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        pooled = [self._pool(mode, hidden, mask) for mode in self.modes]
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=1)

    def _pool(self, mode: str, hidden: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            mask = torch.ones(hidden.shape[:2], device=hidden.device)
        weights = mask.unsqueeze(2).to(hidden.dtype)
        if mode == "cls":
            return hidden[torch.arange(len(hidden)), mask.to(torch.int8).argmax(1)]
        if mode == "max":
            return hidden.masked_fill(weights == 0, -1e9).amax(1)
        if mode == "lasttoken":
            last = mask.shape[1] - 1 - mask.flip(1).to(torch.int8).argmax(1)
            return hidden[torch.arange(len(hidden)), last] * weights[torch.arange(len(hidden)), last]
        if mode == "weightedmean":
            weights = weights * torch.arange(1, hidden.shape[1] + 1, device=hidden.device).view(1, -1, 1)
        total = (hidden * weights).sum(1)
        count = weights.sum(1).clamp(min=1e-9)
        return total / count.sqrt() if mode == "mean_sqrt_len_tokens" else total / count


class Normalize(nn.Module):
    """Scales each vector to length one. x: (B, D)."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(x, dim=1)


class PooledBody(nn.Module):
    """A transformers encoder, its pooling and the layers behind it.

    Shapes:
        input_ids and the other inputs: (B, T). Returns features (B, D) float32.
    """

    def __init__(self, encoder: nn.Module, pooling: Pooling, layers: list[nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.layers = nn.ModuleList(layers)

    @property
    def pooled(self) -> str:
        """In words, how hidden states become one vector."""
        behind = [type(layer[0] if isinstance(layer, nn.Sequential) else layer).__name__ for layer in self.layers]
        return ", then ".join([f"{' and '.join(self.pooling.modes)} over tokens", *behind])

    def forward(self, **inputs: Tensor) -> Tensor:
        hidden = self.encoder(**inputs).last_hidden_state.float()
        features: Tensor = self.pooling(hidden, inputs.get("attention_mask"))
        for layer in self.layers:
            weight = next(layer.parameters(), features)
            features = layer(features.to(weight.dtype))
        return features


def read_modules(root: Path, last: int | None = None) -> tuple[Pooling, list[nn.Module], list[tuple[str, Path]]]:
    """The pooling and later layers that a folder states (up to entry ``last``), and each one's type and folder.

    The head that whet put behind them in a packaged folder is left out where ``last`` is None.

    Returns:
        Mean pooling, no layers and an empty list for a folder that states nothing.
    """
    listed = root / "modules.json"
    if not listed.exists():
        return Pooling(), [], []
    if last is None and (root / RECORD).is_file():
        last = -1  # the head of a packaged model is no part of what it was tuned from
    pooling, layers = Pooling(), list[nn.Module]()
    places: list[tuple[str, Path]] = []
    for entry in json.loads(listed.read_text(encoding="utf-8"))[1:last]:
        kind, folder = str(entry["type"]).rpartition(".")[2], root / entry["path"]
        if kind == "Pooling" and places:
            raise ModelError(
                "The folder states a module between the transformer and the pooling, which is unknown here.",
                where=str(listed),
                fix="use a model that pools first, or pass backbone.head=native",
            )
        if kind == "Pooling":
            pooling = read_pooling(folder)
        else:
            layers.append(read_layer(kind, folder))
        places.append((str(entry["type"]), folder))
    return pooling, layers, places


def read_pooling(folder: Path) -> Pooling:
    """A Pooling module's config: one flag a mode in older files, one list in newer ones."""
    config = read_json(folder / "config.json")
    stated = config.get("pooling_mode")
    if isinstance(stated, str):
        modes: tuple[str, ...] = tuple(stated.split("+"))
    elif stated:
        modes = tuple(stated)
    else:
        flags = {"cls_token": "cls", "max_tokens": "max", "mean_tokens": "mean"}  # in the order of concatenation
        flags |= {"mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "weightedmean_tokens": "weightedmean"}
        names = {f"pooling_mode_{flag}": mode for flag, mode in (flags | {"lasttoken": "lasttoken"}).items()}
        modes = tuple(mode for name, mode in names.items() if config.get(name)) or ("mean",)
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown:
        raise ModelError(
            f"The folder asks for pooling by {unknown[0]!r}, which is unknown here.",
            where=str(folder / "config.json"),
            fix=f"use a model that pools by {', '.join(MODES)}, or pass backbone.head=native",
        )
    return Pooling(modes)


def read_layer(kind: str, folder: Path) -> nn.Module:
    """A layer behind the pooling: Normalize, Dense, LayerNorm or Dropout."""
    if kind == "Normalize":
        return Normalize()
    config = read_json(folder / "config.json")
    if kind == "Dropout":
        return nn.Dropout(float(config.get("dropout", 0.1)))
    if kind == "Dense":
        if config.get("use_residual") or config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
            raise ModelError(
                "A Dense module has a residual or reads something else than the pooled vector, which is unknown here.",
                where=str(folder / "config.json"),
                fix="use another model, or pass backbone.head=native",
            )
        linear = nn.Linear(int(config["in_features"]), int(config["out_features"]), bias=bool(config.get("bias", True)))
        activation = activation_of(str(config.get("activation_function", "torch.nn.modules.activation.Tanh")), folder)
        fill(linear, folder, "linear.")
        return nn.Sequential(linear, activation)
    if kind == "LayerNorm":
        norm = nn.LayerNorm(int(config["dimension"]))
        fill(norm, folder, "norm.")
        return norm
    raise ModelError(
        f"The folder states a module of type {kind!r}, which is unknown here.",
        where=str(folder),
        fix="use a model with Pooling, Dense, LayerNorm, Dropout and Normalize only, or pass backbone.head=native",
    )


def activation_of(path: str, folder: Path) -> nn.Module:
    """A Dense layer's activation, from torch.nn alone."""
    name = path.rpartition(".")[2]
    found: Any = getattr(nn, name, None) if path.startswith("torch.nn.") else None
    if found is None or not issubclass(found, nn.Module):
        raise ModelError(
            f"The folder names an activation that is not from torch.nn: {path!r}.",
            where=str(folder / "config.json"),
            fix="use a model whose Dense layers have an activation of torch.nn",
        )
    return found()  # type: ignore[no-any-return]


def fill(module: nn.Module, folder: Path, prefix: str) -> None:
    """Load a layer's weights, whose names carry ``prefix``."""
    path = next(
        (folder / name for name in ("model.safetensors", "pytorch_model.bin") if (folder / name).exists()), None
    )
    if path is None:
        raise ModelError("A module has no weights.", where=str(folder), fix="fetch the model folder again")
    tensors = read_tensors(path)
    module.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})

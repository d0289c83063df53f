"""A kind of input that whet does not know, as another package would add it: grids of numbers in files of their own.

Rows name the files. One modality, one family of models; nothing else is told of them but two rows of the catalog.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from whet.backbones.backbone import Backbone, HeadedModel, Meaning
from whet.backbones.describe import describe, feature_width, folded_head
from whet.data.columns import ColumnSummary
from whet.data.near import Near
from whet.data.ragged import Ragged
from whet.data.rows import Columns, Finding, Rows
from whet.errors import DataError
from whet.modalities.modality import Encoded

PATCH = 4
"""Numbers of a side that count as one position."""


@dataclass(frozen=True)
class Grid:
    """Grids (C, H, W) in .npy files, named by rows.

    Args:
        brightness: Added to every number.
    """

    brightness: float = 0.0
    nouns: ClassVar[tuple[str, str]] = ("grid", "grids")
    by_name: ClassVar[bool] = True
    model: ClassVar[str | None] = None
    packages: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str] = "grid.npy"
    hub_task: ClassVar[str] = "other"

    def recognise(self, column: ColumnSummary) -> float:
        named = [value for value in column.examples if value.endswith(".npy")]
        return 1e6 if named and len(named) == len(column.examples) else 0.0

    def admit(self, rows: Rows, name: str) -> tuple[Rows, list[Finding]]:
        for place, value in enumerate(rows.values(name)):
            if value and not within(rows.folder, value).is_file():
                raise DataError(
                    f"There is no file {value!r}.",
                    rows.place(int(rows.ids[place]), name),
                    "put it back, or drop the row",
                )
        return rows, []

    def values(self, columns: Sequence[pa.Array], folder: Path | None) -> list[tuple[Path | None, ...]]:
        rows = zip(*map(list_of, columns), strict=True)
        return [tuple(within(folder, value) if value else None for value in row) for row in rows]

    def anchored(self, column: pa.ChunkedArray, folder: Path | None) -> pa.ChunkedArray:
        paths = [value and str(within(folder, value).absolute()) for value in list_of(column)]
        return pa.chunked_array([paths], pa.string())

    def given(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value if value.ndim == 3 else None
        return Path(value) if isinstance(value, str | Path) else None

    def thumbnail(self, value: tuple[Any, ...]) -> str:
        return ""

    def held_in(self, path: Path) -> bool:
        return path.suffix == ".npy"

    def keys(self, columns: Sequence[pa.Array], folder: Path | None) -> list[bytes]:
        return [b"".join(read(path).tobytes() for path in paths if path) for paths in self.values(columns, folder)]

    def sizes(self, columns: Sequence[pa.Array], folder: Path | None) -> list[int]:
        return [sum(path.stat().st_size for path in paths if path) for paths in self.values(columns, folder)]

    def near(self, tables: list[Rows], hashes: list[np.ndarray[Any, Any]], columns: Columns) -> Near:
        return Near(np.zeros((0, 4), np.int64), 0, 0, capped=False)

    def processor(self, folder: Path, *, max_length: int | None, pairs: bool) -> "GridProcessor":
        return GridProcessor(json.loads((folder / "config.json").read_text())["side"], self.brightness)


class GridProcessor:
    """Grids of one size as they are."""

    unit = "patches"

    def __init__(self, side: int, brightness: float) -> None:
        self.side, self.brightness = side, brightness

    def fingerprint(self) -> str:
        return f"grids of {self.side} and {self.brightness}"

    def encode(self, values: Sequence[tuple[Any, ...]]) -> Encoded:
        grids = [value if isinstance(value, np.ndarray) else read(value) for (value,) in values]
        for (value,), grid in zip(values, grids, strict=True):
            if grid.shape != (1, self.side, self.side):
                raise DataError(
                    f"A grid has the shape {grid.shape}.", str(value), f"make it 1 x {self.side} x {self.side}"
                )
        number, length = np.arange(len(values), dtype=np.int32), (self.side // PATCH) ** 2
        return Encoded(
            {"grid": Ragged.pack([grid + np.float32(self.brightness) for grid in grids])},
            number, np.zeros_like(number), np.full(len(values), length, np.int32),
        )  # fmt: skip

    def collate(self, inputs: dict[str, Ragged]) -> dict[str, Tensor]:
        return {"grid": torch.from_numpy(np.stack(list(inputs["grid"])))}

    def record(self) -> dict[str, Any]:
        return {"side": self.side}

    def walk(self, value: tuple[Any, ...]) -> list[tuple[str, str]]:
        return [("file", str(value[0])), ("grid", str(self.encode([value]).inputs["grid"].shapes[0].tolist()))]


class Block(nn.Module):
    """A residual block of a convolution and a batch norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.norm(self.convolution(x)))


class Net(nn.Module):
    """A stem, blocks, and the mean over positions: (B, 1, S, S) to (B, C)."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(blocks)))

    def forward(self, grid: Tensor) -> Tensor:
        return self.blocks(self.stem(grid)).mean((2, 3))  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class GridNet:
    """The family of ``Net``: config.json and model.safetensors, with the head once it is tuned."""

    library: ClassVar[str] = "torch"
    portable: ClassVar[bool] = True

    def python(self, folder: str, example: Sequence[str], meaning: Meaning) -> str:
        return ""

    def recognise(self, folder: Path, modality: str) -> float:
        config = json.loads((folder / "config.json").read_text())
        return float(modality == "grid" and config["model_type"] == "grid-net")

    def adopt(self, file: Path, place: Path) -> bool:
        return False

    def load(self, folder: Path, *, outputs: int, seed: int) -> Backbone:
        config, body = read_net(folder)
        example = {"grid": torch.ones(2, 1, config["side"], config["side"])}
        return describe(
            HeadedModel(body, feature_width(body, example, "grids"), outputs).eval(), (), example, ragged=False
        )

    def save(
        self, model: HeadedModel, folder: Path, *, source: Path, meaning: Meaning, max_length: int | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        head = {f"head.{name}": tensor for name, tensor in folded_head(model).state_dict().items()}
        body = {f"body.{name}": tensor.contiguous() for name, tensor in model.body.state_dict().items()}
        save_file(body | head, folder / "model.safetensors")
        (folder / "config.json").write_bytes((source / "config.json").read_bytes())

    def reload(self, folder: Path) -> HeadedModel:
        _, body = read_net(folder)
        stored = load_file(folder / "model.safetensors")
        outputs, width = stored["head.weight"].shape
        model = HeadedModel(body, width, outputs)
        model.head.load_state_dict({name: stored[f"head.{name}"] for name in ("weight", "bias")})
        return model.eval()


def read_net(folder: Path) -> tuple[dict[str, Any], Net]:
    config = json.loads((folder / "config.json").read_text())
    body, stored = Net(config["channels"], config["blocks"]), load_file(folder / "model.safetensors")
    body.load_state_dict({name.removeprefix("body."): stored[name] for name in stored if name.startswith("body.")})
    return config, body


def tiny_grid_model(folder: Path, *, channels: int = 8, blocks: int = 3, side: int = 8) -> Path:
    """Random weights, and running statistics that are not the usual zeros and ones."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    net = Net(channels, blocks)
    net.train()
    for _ in range(3):
        net(torch.randn(16, 1, side, side))
    config = {"model_type": "grid-net", "architectures": ["Net"], "channels": channels, "blocks": blocks, "side": side}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({f"body.{name}": tensor for name, tensor in net.state_dict().items()}, folder / "model.safetensors")
    return folder


def within(folder: Path | None, value: str | None) -> Path:
    return (folder or Path()) / (value or "")


def list_of(column: pa.Array | pa.ChunkedArray) -> list[str | None]:
    found: list[str | None] = column.to_pylist()
    return found


def read(path: Path) -> np.ndarray[Any, Any]:
    try:
        return np.load(path, allow_pickle=False).astype(np.float32)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise DataError(f"The grid cannot be read: {error}.", str(path), "write it again") from error

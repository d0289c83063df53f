"""A packaged model that answers: from raw values to decided labels, with no training code behind it.

Rows stream through in chunks; within a chunk, inputs of like length share a batch, and the windows of a long text
are averaged. Everything needed lies in the model folder, and its files are compared with their recorded hashes before
they are used.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whet import catalog
from whet.backbones.backbone import HeadedModel, to_bfloat16
from whet.backbones.precisions import Precision
from whet.backbones.source import check_weights, verify_recorded
from whet.backbones.weights import RECORD
from whet.data.ragged import by_length
from whet.data.read import read_table
from whet.data.rows import Columns, Rows, raw_values
from whet.errors import ConfigError, DataError, MachineError, ModelError, closest
from whet.modalities.modality import Array, Encoded, Modality, Processor, in_portions
from whet.tasks.predictions import Predictions
from whet.tasks.task import State, Task

FORMAT = 1
"""Version of ``whet.json``; a folder with a later one is refused."""
RECORDED: dict[str, Any] = {
    "family": dict, "task": dict, "state": dict, "columns": dict, "modality": dict, "pairs": bool,
    "max_length": int | None,
}  # fmt: skip
"""What ``whet.json`` holds beside its format, and of which kind."""
CHUNK = 4096
"""Rows that are encoded and sorted by length together."""
MOST_TOKENS = 4096
"""Padded positions a batch."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model with all it needs to answer; ``Predictor.load`` makes it from a folder.

    Args:
        model: A plain module: a batch's tensors by name to outputs (B, K).
        record: What the folder's ``whet.json`` states.
    """

    model: HeadedModel
    processor: Processor
    task: Task
    state: State
    columns: Columns
    record: Mapping[str, Any]
    precision: Precision = "float32"

    @staticmethod
    def load(folder: Path, *, device: str = "cpu", precision: Precision = "float32") -> "Predictor":
        """The model in a run folder, or in its model/ folder.

        Args:
            precision: "float32-medium" lets the processor's fastest float32 kernels be used, "bfloat16" halves memory.

        Raises:
            ModelError: whet wrote no model there, or it is damaged or altered.
            MachineError: the device is not there.
        """
        place = model_folder(folder)
        record = read_record(place)
        check_weights(place)
        verify_recorded(place)
        try:
            family = catalog.find("backbone", record["family"]["name"])(**record["family"]["settings"])
            task = catalog.find("task", record["task"]["name"])(**record["task"]["settings"])
            modality = modality_of(place)
            columns = Columns(tuple(record["columns"]["inputs"]), tuple(record["columns"]["target"]), modality=modality)
        except (KeyError, TypeError, AttributeError) as error:
            raise damaged_record(place, "its family, task or columns cannot be read") from error
        model = family.reload(place)
        if precision == "bfloat16":
            to_bfloat16(model.body)
        try:
            model = model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise MachineError(
                f"The device {device!r} cannot be used: {str(error).splitlines()[0]}",
                where="device",
                fix="leave it out to use the processor",
            ) from error
        return Predictor(
            model=model.eval(),
            processor=modality.processor(place, max_length=record["max_length"], pairs=record["pairs"]),
            task=task,
            state=record["state"],
            columns=columns,
            record=record,
            precision=precision,
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes or labels, in the order of probabilities; none for a regression."""
        return tuple(self.state.get("labels") or ())

    def predict(self, values: Any) -> list[Any]:
        """A label a row; a list of labels (multi-label); a number (regression).

        Args:
            values: Texts or whatever the model reads (pairs of them for a model of pairs), or rows: dicts, a frame, a
                Dataset, ``Rows``.

        Raises:
            DataError: a column is missing, or a value is of another kind.
        """
        return answers(self._predictions(values))

    def predict_proba(self, values: Any) -> Array:
        """(N, K) probabilities in the order of ``labels``; each label's own for multi-label.

        Raises:
            ConfigError: the model predicts numbers, which have no probabilities.
        """
        if self.task.kind == "regression":
            raise ConfigError(
                "A regression has no probabilities.", where="predict_proba", fix="use predict, which gives the numbers"
            )
        return self._predictions(values).scores

    def answer(self, rows: Rows) -> Predictions:
        """Predictions for rows, in their order. Memory grows with the answers, not with the texts."""
        self.check_columns(rows)
        batches = rows.batches(self.columns.inputs, CHUNK)
        parts = [self.outputs(values_of(rows, self.columns, batch, CHUNK * at)) for at, batch in enumerate(batches)]
        return self.task.decode(np.concatenate([self.outputs([]), *parts]), rows.ids, self.state)

    def outputs(self, values: Sequence[tuple[Any, ...]]) -> Array:
        """(N, K) float32 outputs for raw values, windows averaged."""
        with matmul_precision("medium" if self.precision == "float32-medium" else "highest"):
            return run(self.model, self.processor, values)

    def check_columns(self, rows: Rows) -> None:
        """Does this table have the columns that the model reads?

        Raises:
            DataError: one is missing; the message names those that are most alike.
        """
        for name in self.columns.inputs:
            if name not in rows.names:
                near = closest(name, rows.names)
                fix = "rename " + " or ".join(map(repr, near)) + f" to {name!r}" if near else f"add a column {name!r}"
                raise DataError(
                    f"The column {name!r} that the model reads is missing; there are "
                    f"{', '.join(map(repr, rows.names[:10]))}.",
                    where=rows.source,
                    fix=fix,
                )

    def _predictions(self, values: Any) -> Predictions:
        if isinstance(values, Rows):
            return self.answer(values)
        one, many = self.columns.modality.nouns
        if not isinstance(values, list | tuple | None) and self.columns.modality.given(values) is not None:
            raise DataError(f"A list of {many} is needed, got one {one}.", where="values", fix=f"predict([{one}])")
        listed = plain_values(values)
        if listed is None:
            return self.answer(read_table(values)[0])
        raw = [as_raw(value, number, self.columns) for number, value in enumerate(listed)]
        parts = [self.outputs(raw[begin : begin + CHUNK]) for begin in range(0, len(raw), CHUNK)]
        outputs = np.concatenate([self.outputs([]), *parts])
        return self.task.decode(outputs, np.arange(len(raw), dtype=np.int64), self.state)


def model_folder(folder: Path) -> Path:
    """Where the model lies: the folder itself, or model/ in a run folder.

    Raises:
        ModelError: there is no such folder.
    """
    if not folder.exists():
        raise ModelError("There is no such folder.", where=str(folder), fix="`whet runs` lists the runs that are here")
    return folder if (folder / RECORD).is_file() else folder / "model"


def modality_of(folder: Path) -> Modality:
    """What a packaged model reads, with its settings.

    Raises:
        ModelError: whet wrote no model there, or its record is damaged.
    """
    stated = read_record(folder)["modality"]
    try:
        found: Modality = catalog.find("modality", stated["name"])(**stated["settings"])
    except (KeyError, TypeError, ConfigError) as error:
        raise damaged_record(folder, f"its modality cannot be read ({' '.join(str(error).split())})") from error
    return found


def read_record(folder: Path) -> dict[str, Any]:
    """What ``whet.json`` states.

    Raises:
        ModelError: there is none, it is damaged, or a later whet wrote it.
    """
    path = folder / RECORD
    if not path.is_file():
        raise ModelError(
            f"There is no model that whet packaged: {RECORD} is missing.",
            where=str(folder),
            fix="give a run folder of whet, or the model/ folder in one",
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        written = int(record["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged_record(folder, "it is no table with a format") from error
    if written > FORMAT:
        raise ModelError(
            f"The model was packaged by a later whet ({record.get('whet')}).",
            where=str(path),
            fix="pip install --upgrade whet",
        )
    if isinstance(record.get("modality"), str):  # before a kind of input had settings
        record["modality"] = {"name": record["modality"], "settings": {}}
    wrong = [name for name, kinds in RECORDED.items() if name not in record or not isinstance(record[name], kinds)]
    if wrong:
        raise damaged_record(folder, f"{' and '.join(wrong)} cannot be read")
    return dict(record)


def damaged_record(folder: Path, why: str) -> ModelError:
    """What is said where ``whet.json`` is not as it was written."""
    return ModelError(
        f"{RECORD} is damaged: {why}.", where=str(folder / RECORD), fix="restore the model folder from its run"
    )


def run(model: HeadedModel, processor: Processor, values: Sequence[tuple[Any, ...]]) -> Array:
    """(N, K) float32 outputs of a model for raw values: longest first, the pieces of a value averaged."""
    found = np.zeros((len(values), model.head.out_features), np.float32)
    if not values:
        return found
    for begin, encoded in in_portions(processor, values):
        add_outputs(found[begin:], model, processor, encoded)
    return found


def add_outputs(found: Array, model: HeadedModel, processor: Processor, encoded: Encoded) -> None:
    """Add the outputs of pieces to those of their values: (N, K) float32, from the first value of these on."""
    device = model.head.weight.device
    share = (1.0 / np.bincount(encoded.value)).astype(np.float32)
    with torch.inference_mode():
        for index in by_length(encoded.lengths, MOST_TOKENS):
            batch = processor.collate({name: ragged.take(index) for name, ragged in encoded.inputs.items()})
            outputs = model(**{name: tensor.to(device) for name, tensor in batch.items()}).float().cpu().numpy()
            rows = encoded.value[index]
            np.add.at(found, rows, outputs * share[rows, None])


def answers(predictions: Predictions) -> list[Any]:
    """What was decided, as plain Python values, one a row."""
    if predictions.kind == "multi-label":
        labels = np.array(predictions.labels, dtype=object)
        return [labels[row].tolist() for row in predictions.decided]
    if predictions.kind == "classification":
        return [predictions.labels[place] for place in predictions.decided.tolist()]
    return list(predictions.decided.tolist())


def plain_values(values: Any) -> list[Any] | None:
    """The values as a list if they are raw ones or tuples of these, None if they are rows of a table."""
    if isinstance(values, Mapping) or hasattr(values, "columns") or hasattr(values, "column_names"):
        return None
    listed = list(values)
    return None if listed and isinstance(listed[0], Mapping) else listed


def values_of(rows: Rows, columns: Columns, batch: Any, begin: int) -> list[tuple[Any, ...]]:
    """The inputs of a batch of rows, whose first is the one at ``begin``.

    Raises:
        DataError: one is missing, of a kind that knows no empty one.
    """
    values = raw_values(rows, columns, batch)
    for place, value in enumerate(values):
        if any(part is None for part in value):
            raise DataError(
                f"The row has no {columns.modality.nouns[0]}.",
                where=rows.place(int(rows.ids[begin + place]), columns.inputs[0]),
                fix="name one, or leave the row out",
            )
    return values


def as_raw(value: Any, number: int, columns: Columns) -> tuple[Any, ...]:
    """One value as a processor takes it, one part for each input column.

    Raises:
        DataError: it has another number of parts, or one is of another kind.
    """
    (one, many), inputs = columns.modality.nouns, len(columns.inputs)
    parts = value if isinstance(value, list | tuple) else (value,)
    raw = tuple(columns.modality.given(part) for part in parts)
    sound = all(part is not None for part in raw)
    if sound and len(raw) == inputs:
        return raw
    got = f"{len(parts)}" if sound else f"{str(value)[:60]!r} ({type(value).__name__})"
    raise DataError(
        f"The model takes {f'one {one}' if inputs == 1 else f'{inputs} {many}'} for each value, and got {got}.",
        where=f"value {number + 1}",
        fix=f"predict([{one}, ...])" if inputs == 1 else f"predict([({one}, other), ...])",
    )


@contextmanager
def matmul_precision(wanted: str) -> Iterator[None]:
    """Float32 matrix products at this precision, and back as they were."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

"""Rows to examples, for every task that predicts one thing a row. Streams, so that memory stays bounded."""

import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from whet.data.ragged import Ragged
from whet.data.rows import Columns, Rows, raw_values
from whet.modalities.modality import Encoded, Processor
from whet.tasks.task import Examples

CHUNK = 4096
SPILL_ROWS = 200_000
"""Above this many rows the encoded inputs lie in a temporary file instead of memory."""

Array = np.ndarray[Any, Any]


def encode_rows(rows: Rows, columns: Columns, processor: Processor, targets: Array | None) -> Examples:
    """Every row through the processor, in order.

    Raises:
        DataError: from the processor, naming the value it cannot take.
    """
    store = Spilled() if len(rows) > SPILL_ROWS else Kept()
    counted: dict[str, int] = {}
    row_parts, part_parts, length_parts = [], [], []
    done = 0
    for batch in rows.batches(columns.inputs, CHUNK):
        encoded = processor.encode(raw_values(rows, columns, batch))
        store.add(encoded)
        row_parts.append(encoded.value + np.int32(done))
        part_parts.append(encoded.part)
        length_parts.append(encoded.lengths)
        for name, count in encoded.counted.items():
            counted[name] = counted.get(name, 0) + count
        done += batch.num_rows
    none = np.zeros(0, np.int32)
    return Examples(
        inputs=store.inputs(),
        row=np.concatenate(row_parts) if row_parts else none,
        part=np.concatenate(part_parts) if part_parts else none,
        targets=targets,
        row_ids=rows.ids,
        lengths=np.concatenate(length_parts) if length_parts else none,
        counted=counted,
    )


class Kept:
    """Encoded inputs in memory."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Ragged]] = {}

    def add(self, encoded: Encoded) -> None:
        for name, ragged in encoded.inputs.items():
            self._parts.setdefault(name, []).append(ragged)

    def inputs(self) -> dict[str, Ragged]:
        return {name: Ragged.join(parts) for name, parts in self._parts.items()}


class Spilled:
    """Encoded inputs in temporary files that vanish with the process; only sizes stay in memory."""

    def __init__(self) -> None:
        self._files: dict[str, IO[bytes]] = {}
        self._shapes: dict[str, list[Array]] = {}
        self._dtypes: dict[str, Any] = {}

    def add(self, encoded: Encoded) -> None:
        for name, ragged in encoded.inputs.items():
            if name not in self._files:
                self._files[name] = tempfile.TemporaryFile(prefix="whet-", dir=Path(tempfile.gettempdir()))  # noqa: SIM115 - lives as long as the examples
                self._shapes[name], self._dtypes[name] = [], ragged.values.dtype
            self._files[name].write(ragged.compact().values.tobytes())
            self._shapes[name].append(ragged.shapes)

    def inputs(self) -> dict[str, Ragged]:
        found = {}
        for name, file in self._files.items():
            file.flush()
            values = np.memmap(file, dtype=self._dtypes[name], mode="r")
            file.close()  # the mapping holds the file
            found[name] = Ragged.of(values, np.concatenate(self._shapes[name]))
        return found

"""Rows to examples, for every task that predicts one thing a row. Streams, so that memory stays bounded."""

import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from whet.data.ragged import Ragged
from whet.data.rows import Columns, Rows, raw_values
from whet.modalities.modality import Encoded, Processor, in_portions
from whet.tasks.task import Examples

CHUNK = 4096
SPILL_BYTES = 16 * 2**20
"""Above so much, encoded inputs lie in temporary files instead of memory."""

Array = np.ndarray[Any, Any]


def encode_rows(rows: Rows, columns: Columns, processor: Processor, targets: Array | None) -> Examples:
    """Every row through the processor, in order.

    Raises:
        DataError: from the processor, naming the value it cannot take.
    """
    store = Store()
    counted: dict[str, int] = {}
    row_parts, part_parts, length_parts = [], [], []
    done = 0
    for batch in rows.batches(columns.inputs, CHUNK):
        for begin, encoded in in_portions(processor, raw_values(rows, columns, batch)):
            store.add(encoded)
            row_parts.append(encoded.value + np.int32(done + begin))
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


class Store:
    """Encoded inputs: in memory while they are few, else in temporary files that vanish with the process."""

    def __init__(self) -> None:
        self._held: dict[str, list[Ragged]] = {}
        self._held_bytes = 0
        self._files: dict[str, IO[bytes]] = {}
        self._shapes: dict[str, list[Array]] = {}
        self._dtypes: dict[str, Any] = {}

    def add(self, encoded: Encoded) -> None:
        for name, ragged in encoded.inputs.items():
            self._held.setdefault(name, []).append(ragged)
            self._held_bytes += ragged.nbytes
        if self._held_bytes > SPILL_BYTES:
            self._spill()

    def inputs(self) -> dict[str, Ragged]:
        """All that was added, in order."""
        if not self._files:
            return {name: Ragged.join(parts) for name, parts in self._held.items()}
        self._spill()
        found = {}
        for name, file in self._files.items():
            file.flush()
            values = np.memmap(file, dtype=self._dtypes[name], mode="r")
            file.close()  # the mapping holds the file
            found[name] = Ragged.of(values, np.concatenate(self._shapes[name]))
        return found

    def _spill(self) -> None:
        for name, parts in self._held.items():
            if name not in self._files:
                self._files[name] = tempfile.TemporaryFile(prefix="whet-", dir=Path(tempfile.gettempdir()))  # noqa: SIM115 - lives as long as the examples
                self._shapes[name], self._dtypes[name] = [], parts[0].values.dtype
            for ragged in parts:
                self._files[name].write(ragged.compact().values.tobytes())
                self._shapes[name].append(ragged.shapes)
        self._held, self._held_bytes = {}, 0

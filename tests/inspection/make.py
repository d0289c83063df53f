"""Rows to inspect a model with."""

import csv
from pathlib import Path

from whet.testing import tiny_rows

PLAIN = ("machinery.threads=1", "machinery.precision=float32", "machinery.training_precision=float32",
         "backbone.attention=eager", "cache=off")  # fmt: skip


def rows_file(folder: Path, kind: str = "classification", rows: int = 60) -> Path:
    """Rows that can be learnt, as a CSV; labels are joined by a semicolon."""
    found, _ = tiny_rows(kind, rows)  # type: ignore[arg-type]
    path = folder / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "target"])
        for row in found.table.to_pylist():
            target = row["target"]
            writer.writerow([row["text"], ";".join(target) if isinstance(target, list) else target])
    return path

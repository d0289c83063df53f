"""Settings under which nothing is measured, so that tests of whole runs are quick and the same wherever they run."""

from pathlib import Path
from typing import Any

import whet
from whet.testing import tiny_rows

PLAIN = (
    "machinery.threads=1",
    "machinery.precision=float32",
    "machinery.training_precision=float32",
    "backbone.attention=eager",
    "cache=off",
)


def rows_of(kind: Any = "classification", rows: int = 90, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tiny_rows(kind, rows, **more)[0].table.to_pylist()
    return found


def finetuned(rows: Any, model: Path, **wanted: Any) -> whet.Result:
    given: dict[str, Any] = {"method": "probe", "settings": PLAIN, "out": "run", **wanted}
    return whet.finetune(rows, "target", model=model, **given)

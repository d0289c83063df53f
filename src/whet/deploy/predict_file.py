"""A file of rows in, the same rows with answers out. Streams, so that a file larger than memory works.

Beside every input column stand ``predicted`` and, for classes, ``confidence`` (the probability of what was
predicted); then the probabilities: one column a label in CSV, one object in JSON lines. Above ``MOST_LISTED``
labels only the likeliest are listed, as one object in both.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from whet.atomic import written
from whet.data.columns import missing_mask
from whet.data.read import read_table
from whet.data.read_class_folders import bare_rows
from whet.data.reader import refuse_idle_encoding
from whet.data.rows import Finding, Rows
from whet.data.tables import is_raw
from whet.deploy.predictor import CHUNK, Predictor, answers, values_of
from whet.errors import ConfigError, RunError
from whet.tasks.predictions import Predictions

MOST_LISTED = 100
"""Labels whose probabilities are all written."""
LIKELIEST = 5
"""Labels whose probabilities are written where there are more."""
DELIMITERS = {".csv": ",", ".tsv": "\t"}
LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Written:
    """What was answered and where it lies: ``empty`` counts rows without any input, which get an answer too."""

    path: Path
    rows: int
    empty: int
    columns: tuple[str, ...]
    findings: tuple[Finding, ...]


def predict_file(
    predictor: Predictor, source: Path | str, out: Path | None = None, *, encoding: str | None = None
) -> Written:
    """Answer every row of a file.

    Args:
        source: CSV, TSV, JSON, JSON lines, Parquet or Arrow; or a folder, for every input that a file in it or below
            holds.
        out: A .csv, .tsv or .jsonl file, replaced once all is written; None for ``NAME.predicted.csv`` (or .jsonl
            for JSON lines) beside the source. Columns of bytes are left out of it.

    Raises:
        DataError: the source cannot be read, or lacks a column.
        ConfigError: the format of ``out`` is unknown, it is the source itself, or none is named and another file is
            in the way; or an encoding is named for no text.
        RunError: the file cannot be written; nothing is left behind.
    """
    path = out or default_out(Path(source))
    if path.suffix.lower() not in (*DELIMITERS, *LINES):
        raise ConfigError(
            f"Answers cannot be written as {path.suffix or path.name!r}.",
            where=str(path),
            fix="end the name in .csv, .tsv or .jsonl",
        )
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise ConfigError("The answers would replace the rows.", where=str(path), fix="choose another --out")
    rows, findings = rows_of(Path(source), predictor, encoding)
    predictor.check_columns(rows)
    lines = path.suffix.lower() in LINES
    kept = [name for name in rows.names if not is_raw(rows.table.schema.field(name).type)]
    names = fresh_names(predictor, kept, lines)
    if out is None:
        refuse_foreign(path, names[0])
    empty = 0
    with written_beside(path) as file:
        write = json_lines(file) if lines else delimited(file, DELIMITERS[path.suffix.lower()], [*kept, *names])
        for given_rows, without, found in answered(predictor, rows, kept):
            empty += without
            for given, answer in zip(given_rows, answer_cells(found, predictor, lines), strict=True):
                write(given | dict(zip(names, answer, strict=True)))
    return Written(path, len(rows), empty, tuple(names), tuple(findings))


def rows_of(source: Path, predictor: Predictor, encoding: str | None) -> tuple[Rows, list[Finding]]:
    """The rows of a file, or one for every input in a folder."""
    kind = predictor.columns.modality
    if not (source.is_dir() and kind.by_name):
        return read_table(source, encoding=encoding)
    refuse_idle_encoding(encoding, [source])
    return bare_rows(source, kind, predictor.columns.inputs[0]), []


def refuse_foreign(path: Path, name: str) -> None:
    """The file beside the source may be replaced only if it holds answers, too: in its first line, the name of theirs.

    Raises:
        ConfigError: it holds something else.
    """
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    if name not in first:
        raise ConfigError(
            "A file that is not of whet stands where the answers would go.",
            where=str(path),
            fix="name another place with --out, or move it away",
        )


def answered(
    predictor: Predictor, rows: Rows, kept: Sequence[str]
) -> Iterator[tuple[list[dict[str, Any]], int, Predictions]]:
    """The kept columns of rows as dicts, how many rows have no input at all, and their predictions, chunk by chunk."""
    done, columns = 0, predictor.columns
    for batch in rows.batches(rows.names, CHUNK):
        values = values_of(rows, columns, batch, done)
        ids = np.arange(done, done + len(values), dtype=np.int64)
        without = np.logical_and.reduce([missing_mask(batch.column(name)) for name in columns.inputs])
        found = predictor.task.decode(predictor.outputs(values), ids, predictor.state)
        yield batch.select(list(kept)).to_pylist(), int(without.sum()), found
        done += len(values)


def default_out(source: Path) -> Path:
    """Beside the source, named after it."""
    stem = source.name.removesuffix(".gz")
    suffix = ".jsonl" if stem.endswith(LINES) else ".csv"
    return source.with_name(f"{Path(stem).stem}.predicted{suffix}")


def fresh_names(predictor: Predictor, taken: list[str], lines: bool) -> list[str]:
    """Names of the new columns; all get a prefix if one of them is taken."""
    names = ["predicted"]
    if predictor.task.kind == "classification":
        names.append("confidence")
    if predictor.task.kind != "regression":
        listed = not lines and len(predictor.labels) <= MOST_LISTED
        names += [f"probability of {label}" for label in predictor.labels] if listed else ["probabilities"]
    prefix = next(prefix for prefix in prefixes() if not {prefix + name for name in names} & set(taken))
    return [prefix + name for name in names]


def prefixes() -> Iterator[str]:
    """Nothing, "whet_", "whet_2_", ..."""
    yield from ("", "whet_")
    number = 2
    while True:
        yield f"whet_{number}_"
        number += 1


def answer_cells(found: Predictions, predictor: Predictor, lines: bool) -> Iterator[list[Any]]:
    """The new cells of each row, in the order of ``fresh_names``."""
    labels = predictor.labels
    for decided, scores in zip(answers(found), found.scores.tolist(), strict=True):
        cells: list[Any] = [joined(decided, predictor) if isinstance(decided, list) and not lines else decided]
        if found.kind == "classification":
            cells.append(rounded(max(scores)))
        if found.kind != "regression" and not lines and len(labels) <= MOST_LISTED:
            cells += map(rounded, scores)
        elif found.kind != "regression":
            order = np.argsort(-np.array(scores), kind="stable")[:LIKELIEST] if len(labels) > MOST_LISTED else None
            places = range(len(labels)) if order is None else order.tolist()
            cells.append({labels[place]: rounded(scores[place]) for place in places})
        yield cells


def rounded(number: float) -> float:
    """Six significant digits, enough for a probability."""
    return float(f"{number:.6g}")


def joined(labels: list[str], predictor: Predictor) -> str:
    """Several labels in one cell, as the training rows wrote them; a JSON list where a label holds the separator."""
    separator = predictor.state.get("form", {}).get("separator", ";")
    if any(separator in label for label in predictor.labels):
        return json.dumps(labels, ensure_ascii=False)
    return str(separator).join(labels)


def delimited(file: TextIO, delimiter: str, names: list[str]) -> Callable[[dict[str, Any]], None]:
    """Writes the header, and returns what writes one row."""
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(names)

    def write(row: dict[str, Any]) -> None:
        writer.writerow(cell(row[name]) for name in names)

    return write


def cell(value: Any) -> Any:
    """A value as CSV can hold it: lists and objects as JSON, nothing for a missing one."""
    if isinstance(value, list | dict):
        return json.dumps(plain(value), ensure_ascii=False)
    return "" if value is None else value


def json_lines(file: TextIO) -> Callable[[dict[str, Any]], None]:
    """Returns what writes one row."""

    def write(row: dict[str, Any]) -> None:
        file.write(json.dumps(plain(row), ensure_ascii=False) + "\n")

    return write


def plain(value: Any) -> Any:
    """A value as JSON can hold it: text for dates and bytes, null for what is no finite number."""
    if isinstance(value, dict):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


@contextmanager
def written_beside(path: Path) -> Iterator[TextIO]:
    """A text file that gets its name once it is whole, and vanishes if anything goes wrong."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise RunError(
            f"The answers cannot be written: {error.strerror or error}.",
            where=str(path),
            fix="free some space, or choose another place with --out",
        ) from error

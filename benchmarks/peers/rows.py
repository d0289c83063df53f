"""Rows of a benchmark from CSV or TSV, and answers to a file; shared by the peers, which know nothing of whet."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np


def read_rows(path: Path, text: str, target: str) -> tuple[list[str], list[str]]:
    """Texts and labels, in the order of the file."""
    with path.open(newline="", encoding="utf-8") as file:
        dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if path.suffix == ".tsv" else {}
        rows = list(csv.DictReader(file, **dialect))
    return [row[text] for row in rows], [row[target] for row in rows]


def numbered(labels: list[str], names: list[str]) -> list[int]:
    """The place of each label among ``names``, which are sorted."""
    place = {name: number for number, name in enumerate(names)}
    return [place[label] for label in labels]


def save_answers(path: Path, answers: Any) -> None:
    """(N,) class numbers in sorted label order, one a test row, in the order of the test file."""
    np.savez(path, answers=np.asarray(answers, dtype=np.int64))


def save_result(folder: Path, **facts: Any) -> None:
    """What a peer says of its own run."""
    (folder / "result.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

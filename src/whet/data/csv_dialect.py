"""How are the fields of a delimited file told apart? Delimiter and quoting, from its first records."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Literal

SAMPLE_BYTES = 2**20
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_NO_DELIMITER = "\x1f"  # a one-column file
_NATURAL = {".tsv": "\t", ".tab": "\t", ".psv": "|"}


@dataclass(frozen=True)
class Dialect:
    """How to split records: ``quoted`` says whether a field may be wrapped in double quotes."""

    delimiter: str
    quoted: bool = True
    header: tuple[str, ...] = ()

    @property
    def spelled(self) -> str:
        """The delimiter in words."""
        return _DELIMITERS.get(self.delimiter, "nothing (one column)")

    def records(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """Split text lines (with their line ends) into records, blank lines left out."""
        with _long_fields():
            quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
            yield from filter(None, csv.reader(lines, delimiter=self.delimiter, quoting=quoting))


def natural_delimiter(name: str) -> str:
    """The delimiter that a file of this name promises."""
    lowered = name.lower().removesuffix(".gz")
    return next((mark for ending, mark in _NATURAL.items() if lowered.endswith(ending)), ",")


def sniff(sample: str, complete: bool, natural: str) -> Dialect:
    """Choose the delimiter under which most records have as many fields as the header.

    Args:
        sample: The beginning of the file.
        complete: Whether ``sample`` is all of it; otherwise its last record is not trusted.
        natural: The delimiter that wins when two do equally well.
    """
    scored = []
    for delimiter in _DELIMITERS:
        records = _first_records(Dialect(delimiter), sample, complete)
        counts = Counter(len(record) for record in records[1:])
        width = len(records[0]) if records else 0
        share = counts[width] / max(1, sum(counts.values())) if len(records) > 1 else 1.0
        if width > 1:
            scored.append((round(share, 2), delimiter == natural, width, delimiter))
    best = max(scored)[3] if scored else _NO_DELIMITER
    found = Dialect(best, quoted=not _stray_quotes(sample, complete, best))
    header = next(iter(_first_records(found, sample, complete=True)), [])
    return Dialect(best, found.quoted, tuple(header))


def _first_records(dialect: Dialect, sample: str, complete: bool, limit: int | None = 200) -> list[list[str]]:
    records = list(islice(dialect.records(io.StringIO(sample, newline="")), limit))
    return records[:-1] if not complete and 1 < len(records) != limit else records


def _stray_quotes(sample: str, complete: bool, delimiter: str) -> bool:
    """Whether quotes are plain characters: in tab-separated text, one opens a field that its line does not close,
    and lines are more regular when quotes mean nothing.
    """
    if delimiter != "\t" or not re.search(r'(?:^|[\t\r\n])"(?:[^"\t\r\n]|"")*(?=[\t\r\n])', sample):
        return False
    shares = []
    for quoted in (False, True):
        widths = [len(record) for record in _first_records(Dialect(delimiter, quoted), sample, complete, limit=None)]
        shares.append(widths.count(widths[0]) / len(widths))
    return shares[0] == 1.0 or shares[0] > shares[1]


@contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)

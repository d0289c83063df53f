"""What bad input gets: an error with the right words, or a finding; never anything else. One test over the corpus."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from whet.data.checks import run_checks, view_of
from whet.data.clean import clean
from whet.data.read import read
from whet.data.rows import Columns, Finding
from whet.data.split import SplitSettings, split_rows
from whet.errors import DataError, WhetError

CORPUS = Path(__file__).parent.parent / "corpus"
GOOD = "".join(f"the card number {i} was lost,card\na transfer of {i} euros is late,transfer\n" for i in range(12))
TABLE = ("text,label\n" + GOOD).encode()


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file (in the corpus, or written by ``make``), how it is read, and the words it must give."""

    file: str
    error: tuple[str, ...] = ()
    finding: tuple[str, ...] = ()
    make: Callable[[], bytes] | None = None
    test: str | None = None
    group: str | None = None
    time: str | None = None
    encoding: str | None = None
    regression: bool = False


def parquet_bytes() -> bytes:
    import io

    import pyarrow as pa
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(pa.table({"text": ["a"], "label": ["b"]}), sink)
    return sink.getvalue()


CASES = [
    Case(file="absent.csv", error=("no file 'absent.csv'",)),
    Case(file="conflikt.csv", error=("no file", "conflict.csv")),
    Case(file="nowhere/rows.csv", error=("no folder",)),
    Case(file="empty.csv", error=("empty",)),
    Case(file="blank.csv", error=("empty",)),
    Case(file="header_only.csv", error=("header but no rows",)),
    Case(file="ragged_more.csv", error=("Row 25 has 4 fields", "header has 2", "ragged_more.csv, row 25")),
    Case(file="ragged_fewer.csv", error=("Row 26 has 1 field", "no label here")),
    Case(file="open_quote.csv", error=("quote", "never closed", "row 25")),
    Case(file="open_quote_first.csv", error=("Row 25 has 1 field", "never closed")),
    Case(file="twice_named.csv", error=("'text'", "columns 1 and 3")),
    Case(file="no_header.csv", error=("'1'", "first line is a row")),
    Case(file="header_is_a_row.csv", error=("no column 'text'", "The parcel")),
    Case(file="other_target.csv", error=("no column 'label'", "'intnet'")),
    Case(file="one_class.csv", error=("all one class", "'same'", "20 rows")),
    Case(file="single_row_class.csv", finding=("single row", "'rare'")),
    Case(file="missing_targets.csv", finding=("2 of 26 rows have no target",)),
    Case(file="missing_texts.csv", finding=("3 of 27 rows have no text",)),
    Case(file="all_texts_empty.csv", error=("No usable row is left of 16",)),
    Case(file="nul_inside.csv", finding=("1 NUL byte",)),
    Case(file="cp1252.csv", finding=("cp1252", "line 26")),
    Case(file="cp1252.csv", encoding="utf-8", error=("said to be utf-8", "line 26", "byte")),
    Case(file="cp1252.csv", encoding="cp-1225", error=("no text encoding named 'cp-1225'", "cp125")),
    Case(file="not_cp1252.csv", error=("neither UTF-8", "nor cp1252", "line 26")),
    Case(file="damaged_utf8.csv", finding=("cp1252", "good UTF-8")),
    Case(file="html_labels.csv", finding=("HTML",), test="html_labels_test.csv"),
    Case(file="too_few.csv", error=("3 usable rows", "at least 10")),
    Case(file="conflict.csv", finding=("under different targets", "'card'", "'transfer'")),
    Case(file="markup.csv", finding=("HTML tags",)),
    Case(file="markup.csv", finding=("HTML entities",)),
    Case(file="markup.csv", finding=("control characters",)),
    Case(file="markup.csv", finding=("U+FFFD",)),
    Case(file="markup.csv", finding=("mojibake",)),
    Case(file="markup.csv", finding=("invisible",)),
    Case(file="spelled_twice.csv", finding=("spelled in several ways", "'Card '")),
    Case(file="semicolons.csv", finding=("semicolons",)),
    Case(file="malformed.jsonl", error=("malformed in line 2",)),
    Case(file="malformed.json", error=("malformed in line 3",)),
    Case(file="not_objects.jsonl", error=("Row 2", "not an object", "line 2")),
    Case(file="mixed_target.jsonl", finding=("mixes text with numbers", "'label'")),
    Case(file="nested_text.jsonl", error=("nested values, not text",)),
    Case(file="numbers_as_text.jsonl", finding=("read as text", "int64")),
    Case(file="other_keys.jsonl", finding=("rows has no target",)),
    Case(file="gives_away.csv", finding=("'reason'", "'no'", "away")),
    Case(file="times.csv", time="when", error=("'soon'", "row 21, column 'when'")),
    Case(file="numbers.csv", regression=True, error=("must be a number", "'about 7'", "row 21")),
    Case(file="gives_away.csv", group="label", error=("No test rows", "too few groups", "'label'")),
    Case(file="conflict.csv", test="other_target.csv", error=("another header", "'label'")),
    Case(file="conflict.csv", test="unseen.csv", finding=("class that train lacks", "loan (2)")),
    Case(file="conflict.csv", test="leak.csv", finding=("24 of 24 rows of leak",)),
    Case(file="rows.xyz", make=lambda: TABLE, error=("ending of 'rows.xyz'", ".csv")),
    Case(file="excel.csv", make=lambda: b"PK\x03\x04" + bytes(100), error=("Excel",)),
    Case(file="image.csv", make=lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), error=("PNG",)),
    Case(file="document.csv", make=lambda: b"%PDF-1.7\n" + bytes(100), error=("PDF",)),
    Case(file="columns.csv", make=parquet_bytes, error=("Parquet", "rename it to columns.parquet")),
    Case(file="packed.csv", make=lambda: gzip.compress(TABLE), error=("gzip", "rename it to packed.csv.gz")),
    Case(file="plain.csv.gz", make=lambda: TABLE, error=("cannot be unpacked",)),
    Case(file="cut.csv.gz", make=lambda: gzip.compress(TABLE)[:60], error=("cannot be unpacked",)),
    Case(file="noise.csv", make=lambda: bytes(range(256)) * 40 + bytes(2000), error=("not text", "NUL")),
    Case(file="cut.parquet", make=lambda: parquet_bytes()[:-20], error=("not a whole Parquet",)),
    Case(file="cut.arrow", make=lambda: b"ARROW1\0\0" + bytes(50), error=("Arrow file cannot be read",)),
    Case(file="empty.arrow", make=lambda: b"", error=("empty",)),
    Case(file="long.csv", make=lambda: TABLE + b"word " * 2_000_000 + b",card\n", finding=("longer than 1,000,000",)),
    Case(file="none.jsonl", make=lambda: b"[]", error=("no rows",)),
    Case(file="one.json", make=lambda: json.dumps({"text": "a"}).encode(), error=("no column 'label'",)),
]


def walk(case: Case, folder: Path) -> list[Finding]:
    """Everything that happens to rows before a model is loaded."""
    columns = Columns(("text",), ("label",), group=case.group, time=case.time)
    source = CORPUS / case.file
    if case.make is not None:
        source = folder / case.file
        source.write_bytes(case.make())
    tests = [_test_file(case.test, folder)] if case.test else []
    sources = clean(read(source, tests=tests, encoding=case.encoding), columns)
    split = split_rows(sources, columns, SplitSettings(regression=case.regression), sealed_folder=folder / "sealed")
    kind = "regression" if case.regression else "classification"
    return [*split.findings, *sources.findings, *run_checks(view_of(split, columns, kind))]


def _test_file(name: str, folder: Path) -> Path:
    path = folder / name
    texts = {
        "unseen.csv": "text,label\nnew one,loan\nnew two,loan\nnew three,card\n",
        "leak.csv": "text,label\n" + GOOD,
        "html_labels_test.csv": 'text,label\n<b>bold</b>,"a, b"\n',
    }
    if name not in texts:
        return CORPUS / name
    path.write_text(texts[name])
    return path


def name_of(case: Case) -> str:
    return f"{case.file}: {(case.error or case.finding)[0][:30]}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_bad_input_is_answered_in_the_right_words(case: Case, tmp_path: Path) -> None:
    if case.error:
        with pytest.raises(WhetError) as caught:
            walk(case, tmp_path)
        assert isinstance(caught.value, DataError)
        for word in case.error:
            assert word in str(caught.value)
    else:
        messages = [finding.message for finding in walk(case, tmp_path)]
        assert any(all(word in message for word in case.finding) for message in messages), messages


def test_no_check_fails_on_any_file_of_the_corpus(tmp_path: Path) -> None:
    for case in (case for case in CASES if case.finding):
        messages = [finding.message for finding in walk(case, tmp_path)]
        assert not [message for message in messages if "failed and was left out" in message]


def test_objects_that_hold_no_rows_are_refused() -> None:
    bad: list[tuple[Any, str]] = [
        (3, "cannot read rows from"),
        ([], "no rows"),
        (["a text"], "not a dict"),
        ({"text": ["a"], "label": ["x", "y"]}, "unequal lengths"),
        ({"text": "a"}, "not a list"),
    ]
    for source, words in bad:
        with pytest.raises(DataError, match=words):
            read(source)

"""The same rows read the same from every format, and files larger than memory stay on disk."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from whet.data import read_csv, read_json, reader, spill
from whet.data.columns import describe_columns
from whet.data.read import read, read_table
from whet.data.rows import Rows
from whet.errors import DataError

TEXTS = [
    "plain",
    'with "quotes"',
    "a, comma",
    "two\nlines",
    "tab\there",
    "accent é and 漢字",
    "NA",
    "007",
    "emoji 🚀",
    "|bar;",
]
LABELS: list[str | None] = ["yes", "no", None, "a, b", "<script>", "no", "yes", "01", "no", "yes"]
RECORDS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
TABLE = pa.table({"text": TEXTS, "label": LABELS})


def delimited(delimiter: str, end: str = "\n", quote_all: bool = False) -> str:
    def field(value: str | None) -> str:
        text = value or ""
        if quote_all or any(mark in text for mark in (delimiter, '"', "\n", "\r")):
            return '"' + text.replace('"', '""') + '"'
        return text

    lines = [["text", "label"], *([row["text"], row["label"]] for row in RECORDS)]
    return end.join(delimiter.join(field(value) for value in line) for line in lines) + end


def arrow_bytes(stream: bool) -> bytes:
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=3)
    return bytes(sink.getvalue().to_pybytes())


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(TABLE, sink, row_group_size=4)
    return bytes(sink.getvalue().to_pybytes())


LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)
FILES = {
    "rows.csv": delimited(",").encode(),
    "all-quoted.csv": delimited(",", quote_all=True).encode(),
    "windows.csv": delimited(",", end="\r\n").encode(),
    "no-last-line-end.csv": delimited(",").encode().rstrip(b"\n"),
    "marked.csv": b"\xef\xbb\xbf" + delimited(",").encode(),
    "semicolons.csv": delimited(";").encode(),
    "bars.csv": delimited("|").encode(),
    "rows.tsv": delimited("\t").encode(),
    "tabs.csv": delimited("\t").encode(),
    "little.csv": b"\xff\xfe" + delimited(",").encode("utf-16-le"),
    "big.csv": b"\xfe\xff" + delimited(",").encode("utf-16-be"),
    "unmarked-little.csv": delimited(",").encode("utf-16-le"),
    "rows.csv.gz": gzip.compress(delimited(",").encode()),
    "wide.tsv.gz": gzip.compress(b"\xff\xfe" + delimited("\t").encode("utf-16-le")),
    "rows.jsonl": LINES.encode(),
    "lines.json": LINES.encode(),
    "rows.jsonl.gz": gzip.compress(LINES.encode()),
    "rows.json": json.dumps(RECORDS, indent=1).encode(),
    "wrapped.json": json.dumps({"version": 1, "data": RECORDS}).encode(),
    "columns.json": json.dumps({"text": TEXTS, "label": LABELS}).encode(),
    "wide.json": b"\xff\xfe" + json.dumps(RECORDS).encode("utf-16-le"),
    "rows.parquet": parquet_bytes(),
    "file.arrow": arrow_bytes(stream=False),
    "stream.arrow": arrow_bytes(stream=True),
}


def contents(rows: Rows) -> list[dict[str, Any]]:
    return [dict(zip(rows.names, values, strict=True)) for values in zip(*map(rows.values, rows.names), strict=True)]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_the_same_rows_read_the_same_from_every_file_format(
    name: str, streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (read_csv, read_json, reader):
        monkeypatch.setattr(module, "STREAM_BYTES", 0 if streamed else 2**26)
    path = tmp_path / name
    path.write_bytes(FILES[name])
    rows, _ = read_table(path, spill=tmp_path / "spill")
    assert contents(rows) == RECORDS
    assert rows.place(2, "text") == f"{name}, row 3, column 'text'"
    assert not list(tmp_path.rglob("*.part"))


def test_the_same_rows_read_the_same_from_every_object() -> None:
    datasets = pytest.importorskip("datasets")
    objects = [
        TABLE,
        RECORDS,
        {"text": TEXTS, "label": LABELS},
        pandas.DataFrame(RECORDS),
        pandas.DataFrame(RECORDS).astype({"label": "category"}),
        polars.DataFrame(RECORDS),
        polars.DataFrame(RECORDS).lazy(),
        datasets.Dataset.from_list(RECORDS),
    ]
    for source in objects:
        rows, findings = read_table(source)
        assert contents(rows) == RECORDS
        assert findings == []
        assert rows.table.schema.types == [pa.string(), pa.string()]


def test_class_numbers_of_a_dataset_become_their_names() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham", "spam"])}
    )
    parts = {"train": {"text": ["a", "b"], "label": [1, 0]}, "validation": {"text": ["c"], "label": [0]}}
    splits = datasets.DatasetDict({k: datasets.Dataset.from_dict(v, features=features) for k, v in parts.items()})
    sources = read(splits)
    assert sources.train.values("label") == ["spam", "ham"]
    assert sources.valid is not None
    assert sources.valid.values("label") == ["ham"]


def test_class_numbers_in_lists_of_a_dataset_become_their_names() -> None:
    datasets = pytest.importorskip("datasets")
    tag = datasets.ClassLabel(names=["bug", "ui", "docs"])
    features = datasets.Features(
        {"text": datasets.Value("string"), "tags": datasets.Sequence(tag), "two": datasets.Sequence(tag, length=2)}
        | {"old": [tag], "deep": datasets.Sequence(datasets.Sequence(tag)), "size": [{"w": tag}]}
    )
    rows = [
        {"text": "a", "tags": [2, 0], "two": [0, 1], "old": [1], "deep": [[0], []], "size": [{"w": 1}]},
        {"text": "b", "tags": [], "two": [1, -1], "old": None, "deep": None, "size": []},
    ]
    found = read(datasets.Dataset.from_list(rows, features=features)).train
    assert found.values("tags") == [["docs", "bug"], []]
    assert found.values("two") == [["bug", "ui"], ["ui", None]]
    assert found.values("old") == [["ui"], None]
    assert json.loads(found.values("deep")[0]) == [["bug"], []]
    assert '"w"' in found.values("size")[0]


def test_lists_and_numbers_survive_and_nested_values_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    records = [
        {"text": "a", "labels": ["x", "y"], "score": 1, "note": {"deep": [1, {"er": 2}]}},
        {"text": "b", "labels": [], "score": 2.5},
        {"text": "c", "labels": None, "score": 3, "note": [1, "two"]},
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    rows, _ = read_table(path)
    assert rows.values("labels") == [["x", "y"], [], None]
    assert rows.values("score") == [1.0, 2.5, 3.0]
    kinds = {summary.name: summary.kind for summary in describe_columns(rows)}
    assert kinds == {"text": "text", "labels": "list", "score": "number", "note": "other"}


LARGE = 2**60 + 1
NUMBERS: dict[str, list[Any]] = {
    "a fraction and a large one": [0.5, 2, LARGE],
    "a large one and a fraction": [LARGE, None, 0.5, float("nan")],
    "large ones": [1, LARGE, -LARGE],
    "beyond 64 bits": [0.5, 2**70, 1],
    "true and large": [True, LARGE, 0.5],
    "nearly too large": [0.5, 2**53, -(2**53)],
    "just too large": [0.5, 2**53 + 1, 1],
    "lists": [[1, 2.5], [], None, [LARGE]],
    "lists of large ones": [[LARGE], [1]],
    "a large one among lists": [[0.5], LARGE, [None, 1]],
    "lists beyond 64 bits": [[0.5], [2**70], [1, 2**70]],
    "nested": [[[1]], LARGE, 0.5],
}


@pytest.mark.parametrize("ending", [".jsonl", ".json"])
@pytest.mark.parametrize("values", NUMBERS.values(), ids=NUMBERS)
def test_integers_that_no_float_holds_read_the_same_from_large_files(
    values: list[Any], ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_json, "_ROWS", 1)
    path = tmp_path / f"rows{ending}"
    rows = [{"n": value, "text": "a"} for value in values]
    path.write_text("\n".join(map(json.dumps, rows)) if ending == ".jsonl" else json.dumps(rows))
    found = []
    for limit in (2**26, 0):
        monkeypatch.setattr(read_json, "STREAM_BYTES", limit)
        read_rows, findings = read_table(path, spill=tmp_path / "spill")
        found.append((read_rows.table.schema, repr(read_rows.values("n")), [one.message for one in findings]))
    assert found[0] == found[1]


def test_a_large_integer_beside_fractions_keeps_its_digits() -> None:
    rows, _ = read_table([{"n": 0.5, "m": [0.5]}, {"n": LARGE, "m": [LARGE, 1]}])
    assert rows.values("n") == ["0.5", str(LARGE)]
    assert rows.values("m") == [["0.5"], [str(LARGE), "1"]]


def test_a_folder_gives_its_parts_by_name(tmp_path: Path) -> None:
    for name in ("train.csv", "dev.jsonl", "test.csv.gz", "notes.txt"):
        (tmp_path / name).write_bytes(
            FILES.get(name.replace("train", "rows").replace("dev", "rows").replace("test", "rows"), b"x")
        )
    sources = read(tmp_path)
    assert contents(sources.train) == RECORDS
    assert sources.valid is not None
    assert list(sources.tests) == ["test"]
    (tmp_path / "train.jsonl").write_bytes(FILES["rows.jsonl"])
    with pytest.raises(DataError, match=r"train\.csv and train\.jsonl"):
        read(tmp_path)


def test_a_folder_without_train_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(FILES["rows.csv"])
    assert contents(read(tmp_path).train) == RECORDS  # a single one is what there is to learn from
    (tmp_path / "more.csv").write_bytes(FILES["rows.csv"])
    with pytest.raises(DataError, match=r"no train file.*It holds: more\.csv, rows\.csv"):
        read(tmp_path)


def test_test_sets_get_names_of_their_own(tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv", "hard.csv"):
        (tmp_path / name).write_bytes(FILES["rows.csv"])
    sources = read(tmp_path, tests=[tmp_path / "hard.csv", tmp_path / "test.csv", RECORDS])
    assert list(sources.tests) == ["test", "hard", "test-2", "test-3"]


def test_stray_quotes_in_tab_separated_text_are_characters(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text('text\tlabel\n"Well, he said\tx\nit is 5" long\ty\nand "so" on"\tx\n')
    rows, findings = read_table(path)
    assert rows.values("text") == ['"Well, he said', 'it is 5" long', 'and "so" on"']
    assert "plain characters" in findings[0].message


def test_one_column_of_text_needs_no_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("text\nhello, world\none; two\n")
    assert read_table(path)[0].values("text") == ["hello, world", "one; two"]


def test_a_value_longer_than_a_block_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_csv, "_BLOCK", 1000)
    for limit in (0, 2**26):
        monkeypatch.setattr(read_csv, "STREAM_BYTES", limit)
        path = tmp_path / "long.csv"
        path.write_text("text,label\n" + f"{'w ' * 20_000},a\nshort,b\n" * 5)
        rows, _ = read_table(path)
        assert [len(text) for text in rows.values("text")] == [40_000, 5] * 5


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8))
def test_any_quoted_text_survives_csv(records: list[tuple[str, str]]) -> None:
    import csv
    import io
    import tempfile

    sink = io.StringIO(newline="")
    writer = csv.writer(sink, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("text", "label"), *records])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        path.write_text(sink.getvalue(), encoding="utf-8", newline="")
        rows, _ = read_table(path)
    assert list(zip(rows.values("text"), rows.values("label"), strict=True)) == [
        (text or None, label or None) for text, label in records
    ]


def test_selections_of_mapped_rows_keep_order_and_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_csv, "STREAM_BYTES", 0)
    monkeypatch.setattr(read_csv, "_BLOCK", 500)
    monkeypatch.setattr(spill, "_CHUNK_BYTES", 1000)
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"text {i},{i % 3}\n" for i in range(1000)))
    rows, _ = read_table(path)
    assert rows.mapping is not None
    assert rows.table.column("text").num_chunks > 5
    positions = np.random.Generator(np.random.PCG64(0)).permutation(1000)[:300]
    chosen = rows.select(positions)
    assert chosen.values("text") == [f"text {i}" for i in positions]
    again = chosen.select(np.array([7, 3]))
    assert again.ids.tolist() == positions[[7, 3]].tolist()
    assert again.values("label") == [str(i % 3) for i in positions[[7, 3]]]

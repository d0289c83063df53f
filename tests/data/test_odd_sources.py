"""Sources that are read wrongly with ease: nothing of them is lost, mixed up or taken for something else."""

import gzip
import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import whet
from whet.checking import Objects, divide
from whet.data import read_csv, read_json
from whet.data.read import read_table
from whet.data.rows import Rows
from whet.data.targets import open_targets
from whet.errors import ConfigError, DataError
from whet.modalities.text import Text

TEXTS = [f"a question about the {thing} of order {n}" for n in range(15) for thing in ("refund", "parcel")]
NAMES = ["money", "post"] * 15
FRAME = pd.DataFrame({"text": TEXTS, "y": NAMES})


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_test_sets_whose_names_are_alike_have_targets_of_their_own(tmp_path: Path) -> None:
    other = FRAME.assign(y=FRAME["y"].replace({"money": "post", "post": "money"}))
    given = Objects(rows=FRAME, tests={"a/b": FRAME[:10], "a_b": other[:10], "A/b": FRAME[10:20]})
    tests = divide({"data": {"target": "y"}}, given, tmp_path).split.tests
    assert len({test.sealed for test in tests.values()}) == 3
    assert open_targets(tests["a/b"].sealed)["y"].to_pylist() == NAMES[:10]
    assert open_targets(tests["a_b"].sealed)["y"].to_pylist() == other["y"][:10].tolist()


@pytest.mark.parametrize(("given", "said"), [("3 EUR", "must be a number"), ("1e999", "not a finite number")])
def test_a_test_target_that_is_no_number_is_found_before_anything_is_fitted(
    given: str, said: str, tmp_path: Path
) -> None:
    numbers = [str(n) for n in range(30)]
    test = pd.DataFrame({"text": TEXTS[:4], "y": ["1", "2", "", given]})
    test.to_csv(tmp_path / "later.csv", index=False)
    with pytest.raises(DataError, match=said) as caught:
        whet.check(FRAME.assign(y=numbers), "y", test=str(tmp_path / "later.csv"))
    assert "row 4" in caught.value.where


@pytest.mark.parametrize("name", ["pages.json", "pages.jsonl"])
def test_lists_after_one_another_are_all_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('[{"a": "1"}, {"a": "2"}]\n[]\n [{"a": "3"},\n {"a": "4"}]')
    assert read_table(tmp_path / name)[0].values("a") == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[{"a": "1"}]\ngarbage', 2),
        ('[{"a": "1"},\n, {"a": "2"}]', 2),
        ('[{"a": "1"}\n{"a": "2"}]', 2),
        ('[{"a": "1"},\n{"a": "2"}\n', 3),
    ],
)
def test_a_list_with_anything_else_in_or_after_it_is_malformed(text: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(DataError, match=f"line {line}"):
        read_table(tmp_path / "rows.json")


def test_lists_in_a_test_file_are_refused_where_a_row_has_one_class(tmp_path: Path) -> None:
    test = lines(tmp_path / "t.jsonl", [{"text": text, "y": [NAMES[n]]} for n, text in enumerate(TEXTS)])
    with pytest.raises(ConfigError, match="lists in 'y'") as caught:
        whet.check(FRAME, "y", test=str(test))
    assert "t.jsonl" in caught.value.where


def test_three_inputs_are_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match="pair"):
        whet.check(FRAME.assign(a="x", b="z"), "y", text=["text", "a", "b"])


def test_large_whole_numbers_stay_what_they_are(tmp_path: Path) -> None:
    large = [2**53 + n % 4 for n in range(30)]
    for precision in (18, 38):
        column = pa.array(large).cast(pa.decimal128(38, 0)).cast(pa.decimal128(precision, 0))
        assert [str(value) for value in read_table(pa.table({"y": column}))[0].values("y")] == [str(n) for n in large]
    rows = read_table(lines(tmp_path / "rows.jsonl", [{"mentions": [n]} for n in large]))[0]
    assert rows.values("mentions") == [[str(n)] for n in large]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_one_task_for_several_targets_is_refused(task: str) -> None:
    frame = FRAME.assign(a=[0, 1] * 15, b=[1, 0] * 15)
    with pytest.raises(ConfigError, match="one target a row"):
        whet.check(frame, ["a", "b"], settings=[f"task.name={task}"])
    frame["y"] = [["x"], ["x", "y"]] * 15
    with pytest.raises(ConfigError, match="lists in 'y'"):
        whet.check(frame, "y", settings=[f"task.name={task}"])


def test_a_target_named_twice_is_refused() -> None:
    with pytest.raises(DataError, match="named twice"):
        whet.check(FRAME, ["y", "y"])


def test_an_empty_list_among_single_values_is_a_missing_one(tmp_path: Path) -> None:
    rows = [{"text": text, "y": NAMES[n], "n": n} for n, text in enumerate(TEXTS)]
    rows[3] |= {"text": []}
    rows[4] |= {"y": []}
    rows[5] |= {"n": []}
    found = whet.check(str(lines(tmp_path / "rows.jsonl", rows)), "y")
    assert found.task.kind == "classification"
    assert found.columns.inputs == ("text",)
    assert len([one for one in found.findings if one.check == "missing"]) == 2
    assert read_table(tmp_path / "rows.jsonl")[0].values("n")[4:7] == [4, None, 6]


@pytest.mark.parametrize(
    "values", [["a", 5, ["x"]], [["x"], "a", 5], [True, ["x"], "a"], [[True], [False, True]], [2**70, "a", ["x"], []]]
)
def test_lists_beside_whatever_are_read(values: list[Any], tmp_path: Path) -> None:
    rows = read_table(lines(tmp_path / "rows.jsonl", [{"y": value} for value in values]))[0]
    assert len(rows.values("y")) == len(values)


def test_single_labels_of_a_test_file_are_labels_of_a_model_of_lists(tmp_path: Path) -> None:
    labels: list[Any] = [["money", "post"], "money", "post", []]
    rows = [{"text": text, "y": labels[n % 4]} for n, text in enumerate(TEXTS)]
    test = [{"text": f"{text}?", "y": NAMES[n]} for n, text in enumerate(TEXTS[:6])]
    given = Objects(tests={"t": str(lines(tmp_path / "t.jsonl", test))})
    found = divide({"data": {"target": "y", "source": str(lines(tmp_path / "a.jsonl", rows))}}, given, tmp_path)
    state, _ = found.task.prepare(found.split.train, found.columns)
    sealed = open_targets(found.split.tests["t"].sealed)
    targets = found.task.encode_targets(Rows(sealed, "t"), found.columns, state)
    assert state["labels"] == ["money", "post"]
    assert targets.tolist() == [[1, 0], [0, 1]] * 3


@pytest.mark.parametrize("part", ["test", "valid"])
def test_joined_labels_are_refused_where_training_rows_hold_lists(part: str, tmp_path: Path) -> None:
    labels = [["money", "post"], ["a;b"], ["post"], ["money"]]
    rows = [{"text": text, "y": labels[n % 4]} for n, text in enumerate(TEXTS)]
    given = {"y": ["post", "a;b", "post; other", "post; money"]}
    frame = pd.DataFrame({"text": TEXTS[:4], **given}).assign(text=lambda table: table["text"] + "?")
    frame[:3].to_csv(tmp_path / "later.csv", index=False)
    assert whet.check(rows, "y", **{part: str(tmp_path / "later.csv")}).task.kind == "multi-label"
    frame.to_csv(tmp_path / "later.csv", index=False)
    with pytest.raises(DataError, match="'post; money'") as caught:
        whet.check(rows, "y", **{part: str(tmp_path / "later.csv")})
    assert "later.csv, row 4" in caught.value.where
    assert '["post", "money"]' in caught.value.fix


def test_one_label_by_itself_among_lists_of_labels_is_a_list_of_one(tmp_path: Path) -> None:
    labels: list[Any] = [["x", "y"], "y", [], ["x"]]
    rows = [{"text": text, "y": labels[n % 4]} for n, text in enumerate(TEXTS)]
    found = whet.check(str(lines(tmp_path / "rows.jsonl", rows)), "y")
    assert found.task.kind == "multi-label"
    assert read_table(tmp_path / "rows.jsonl")[0].values("y")[:4] == [["x", "y"], ["y"], [], ["x"]]


@pytest.mark.parametrize("one", [1, 1.0])
def test_one_number_by_itself_among_lists_of_numbers_is_a_list_of_one(one: float, tmp_path: Path) -> None:
    labels: list[Any] = [[1, 2], one, [], None, 2, [2], float("nan")]
    rows = [{"text": text, "y": labels[n % 7]} for n, text in enumerate(TEXTS)]
    found = whet.check(str(lines(tmp_path / "rows.jsonl", rows)), "y")
    assert found.task.kind == "multi-label"
    for source in (tmp_path / "rows.jsonl", rows, pd.DataFrame(rows)):
        assert read_table(source)[0].values("y")[:7] == [[1, 2], [1], [], None, [2], [2], None]


@pytest.mark.parametrize("part", ["target", "group", "time_column"])
def test_nested_values_play_no_part(part: str, tmp_path: Path) -> None:
    rows = [{"text": text, "y": NAMES[n], "odd": {"id": n}} for n, text in enumerate(TEXTS)]
    given: dict[str, Any] = {"target": "y", part: "odd"}
    with pytest.raises(DataError, match="nested values"):
        whet.check(str(lines(tmp_path / "rows.jsonl", rows)), text="text", **given)


def test_lists_are_no_groups() -> None:
    with pytest.raises(DataError, match="holds lists"):
        whet.check(FRAME.assign(odd=[[str(n)] for n in range(30)]), "y", text="text", group="odd")


def test_test_files_called_like_other_parts_do_not_take_their_place(tmp_path: Path) -> None:
    frame = pd.concat([FRAME, FRAME.assign(text=FRAME["text"] + " again")])
    for name in ("train", "valid"):
        frame[:20].to_csv(tmp_path / f"{name}.csv", index=False)
    found = whet.check(frame, "y", test=[str(tmp_path / "train.csv"), str(tmp_path / "valid.csv")])
    assert list(found.split.tests) == ["train (test)", "valid (test)"]
    assert not [one for one in found.findings if "failed" in one.message]
    leaks = [one for one in found.findings if one.check == "leakage"]
    assert {one.part for one in leaks if one.part != "valid"} == {"train (test)", "valid (test)"}, (
        "row numbers are those of the test files"
    )


DAMAGED: dict[str, tuple[bytes, str]] = {
    "marked.csv": (b"\xef\xbb\xbftext,y\n" + b"caf\xe9,a\n" * 3, "byte 13"),
    "wide.csv": (b"\xff\xfe" + "text,y\ncafe,a\n".encode("utf-16-le") + b"x", "cannot be decoded"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_bytes_that_belie_their_mark_are_placed(name: str, tmp_path: Path) -> None:
    content, said = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_table(tmp_path / name)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("encoding", [None, "utf-8", "utf-16"])
def test_byte_order_marks_are_no_part_of_a_name_however_many(
    encoding: str | None, streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (read_csv, read_json):
        monkeypatch.setattr(module, "STREAM_BYTES", 0 if streamed else 2**26)
    codec = "utf-16-le" if encoding == "utf-16" else "utf-8"
    for name, text in {"r.csv": "007,y\n01,a\n", "r.jsonl": '{"007": "01", "y": "a"}\n'}.items():
        (tmp_path / name).write_bytes(("\ufeff\ufeff" + text).encode(codec))
        rows = read_table(tmp_path / name, encoding=encoding)[0]
        assert (rows.names, rows.values("007"), rows.values("y")) == (["007", "y"], ["01"], ["a"])


def test_a_bad_byte_is_told_alike_whoever_named_the_encoding(tmp_path: Path) -> None:
    told = []
    for mark, encoding in ((b"\xef\xbb\xbf", None), (b"", "utf-8")):
        (tmp_path / "rows.csv").write_bytes(mark + b"text,y\ncafe,a\n" + b"caf\xe9,a\n" * 3)
        with pytest.raises(DataError) as caught:
            read_table(tmp_path / "rows.csv", encoding=encoding)
        told.append(caught.value.what.partition(", ")[2])
    assert told == [f"but byte {17 + mark} (line 3) cannot be decoded." for mark in (3, 0)]


def test_a_gzip_file_that_breaks_off_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = gzip.compress("".join(f"{n},{rng.bytes(40).hex()}\n" for n in range(5000)).encode())
    (tmp_path / "rows.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="unpacked"):
        read_table(tmp_path / "rows.csv.gz")


def test_half_a_surrogate_pair_is_a_replacement_character(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": "cut \\ud83d", "b": ["\\ud83d"]}\n{"a": "\\ud83d\\ude00", "b": ["x"]}')
    rows = read_table(tmp_path / "rows.jsonl")[0]
    assert rows.values("a") == ["cut \ufffd", "😀"]
    assert rows.values("b") == [["\ufffd"], ["x"]]


def test_half_a_surrogate_pair_in_a_name_is_a_replacement_character(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"text": "a", "l\\ud83d": 1}, {"text": "b", "l\\ud83d": 2}]')
    assert read_table(path)[0].names == ["text", "l\ufffd"]
    assert read_table([{"text": "a", "l\ud83d": 1}])[0].names == ["text", "l\ufffd"]


@pytest.mark.parametrize("streamed", [False, True])
def test_half_a_surrogate_pair_is_said_with_count_and_place(
    streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_json, "STREAM_BYTES", 0 if streamed else 2**26)
    monkeypatch.setattr(read_json, "_ROWS", 3)
    rows = [{"text": f"{text} \ufffd", "y": NAMES[n], "tags": ["x"]} for n, text in enumerate(TEXTS)]
    rows[4]["y"], rows[9]["y"], rows[7]["tags"] = "a\ud83d", "a\ud83e", ["x", "\udc00"]
    sources = [lines(tmp_path / "rows.jsonl", rows)]
    if not streamed:
        sources += [rows, {name: [row[name] for row in rows] for name in rows[0]}, pd.DataFrame(rows, dtype=object)]
    for source in sources:
        said = [one for one in read_table(source)[1] if "surrogate" in one.message]
        assert [(one.count, one.row_ids) for one in said] == [(2, (4, 9)), (1, (7,))]
        assert "row 5, column 'y'" in said[0].where
        assert said[0].message.startswith("2 values of 'y'")


def test_a_column_of_empty_lists_is_read(tmp_path: Path) -> None:
    rows = [{"text": text, "y": NAMES[n], "tags": []} for n, text in enumerate(TEXTS)]
    assert read_table(lines(tmp_path / "rows.jsonl", rows))[0].values("tags") == [[]] * 30


def test_types_of_other_libraries_are_read_as_text() -> None:
    frame = FRAME.assign(age=pd.cut(np.arange(30), 3, labels=None))
    found = whet.check(frame, "y", text="text").split.train
    assert any("9.667" in value for value in found.values("age")), "the ends of an interval can be read"
    ids = pa.array([f"{n:08x}".encode() * 2 for n in range(29, -1, -1)], pa.uuid())
    assert read_table(pa.table({"id": ids}))[0].values("id")[0] == "30303030-3030-3164-3030-303030303164"
    spelled = pa.array([b"caf\xc3\xa9", b"\xff", *(b"%d" % n for n in range(28))], pa.binary())
    assert read_table(pa.table({"g": spelled}))[0].values("g")[:2] == ["café", "b'\\xff'"]
    assert whet.check(pa.table({"text": TEXTS, "y": NAMES, "g": spelled}), "y", text="text", group="g").columns.group
    coded = pa.array([["a", "b"], ["a"]] * 15, pa.list_(pa.dictionary(pa.int32(), pa.string())))
    viewed = pa.array([["a", "b"], ["a"]] * 15, pa.list_view(pa.string()))
    for digits, scale, found in ((10, 0, [[3]]), (38, 0, [["3"]]), (10, 1, [[3.0]])):
        numbers = pa.array([[Decimal(3)]], pa.list_view(pa.decimal128(digits, scale)))
        assert read_table(pa.table({"n": numbers}))[0].values("n") == found
    for labels in (coded, viewed):
        rows = read_table(pa.table({"text": TEXTS, "y": labels}))[0]
        assert rows.values("y")[:2] == [["a", "b"], ["a"]]


@pytest.mark.parametrize(
    "times",
    [
        pd.to_datetime(np.arange(30) * 86400.1234567891, unit="s"),
        pd.to_timedelta([timedelta(hours=n) for n in range(30)]),
        [(pd.Timestamp(0) + pd.Timedelta(minutes=n)).time() for n in range(30)],
    ],
    ids=["nanoseconds", "durations", "times of day"],
)
def test_every_kind_of_time_orders_rows(times: Any) -> None:
    found = whet.check(FRAME.assign(when=times), "y", text="text", time_column="when").split
    assert found.tests["test"].rows.ids.min() > found.train.ids.max()


def test_numbers_are_read_alike_to_learn_and_to_answer() -> None:
    values: dict[str, Any] = {"f": [5.0, 0.1, 1e-7, None], "b": [True, False, True, False], "i": [1, 2, 3, 4]}
    frame = pd.DataFrame({**values, "y": ["u", "v"] * 2, "text": TEXTS[:4]})
    frame = pd.concat([frame] * 10, ignore_index=True)
    rows = read_table(frame.assign(text=[f"{text} {n}" for n, text in enumerate(frame["text"])]))[0]
    for name, texts in {"f": {"5", "0.1", "1e-07"}, "b": {"true", "false"}, "i": {"1", "2", "3", "4"}}.items():
        trained = whet.check(rows.table, "y", text=["text", name]).split.train
        table = dict(zip(trained.ids.tolist(), trained.values(name), strict=True))
        answered = [text for (text,) in Text().values([rows.table.column(name)], None)]
        assert {answered[row] for row in table} == texts
        assert all(answered[row] == text for row, text in table.items())

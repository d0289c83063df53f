"""Checks find what was planted, and nothing in clean rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whet import catalog
from whet.data.checks import CheckView, run_checks, view_of
from whet.data.clean import clean
from whet.data.columns import describe_columns, missing_mask
from whet.data.read import read
from whet.data.rows import Columns, Finding
from whet.data.split import SplitSettings, split_rows

WORDS = "river stone lamp garden winter copper violin harbour candle meadow thunder pocket silver".split()  # noqa: SIM905


def clean_rows(count: int = 400) -> list[dict[str, Any]]:
    random = np.random.Generator(np.random.PCG64(7))
    texts = [" ".join(random.choice(WORDS, size=12)) for _ in range(count)]
    return [{"text": text, "label": "xy"[i % 2], "id": f"row-{i}", "size": str(i % 9)} for i, text in enumerate(texts)]


def findings_of(rows: list[dict[str, Any]], folder: Path, **roles: Any) -> list[Finding]:
    columns = Columns(("text",), ("label",), **roles)
    split = split_rows(clean(read(rows), columns), columns, SplitSettings(), sealed_folder=folder)
    return run_checks(view_of(split, columns, "classification"))


def test_clean_rows_give_no_findings(tmp_path: Path) -> None:
    assert findings_of(clean_rows(), tmp_path) == []


def test_nearly_equal_texts_are_found_wherever_they_lie(tmp_path: Path) -> None:
    rows = clean_rows()
    long = "please could somebody tell me when the parcel that I ordered last week will be delivered to my house"
    rows += [{"text": f"{long} {i}", "label": "x", "id": "", "size": "1"} for i in range(30)]
    messages = [finding.message for finding in findings_of(rows, tmp_path) if "nearly" in finding.message]
    assert len(messages) >= 3  # in train, and between train and both others


def test_texts_that_only_share_words_are_not_nearly_equal(tmp_path: Path) -> None:
    assert not [finding for finding in findings_of(clean_rows(1000), tmp_path) if "nearly" in finding.message]


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("one<BR/>two", True),
        ('see <a href="x">this</a>', True),
        ("<!-- note --> text", True),
        ("<Forwarded from Ann> hello", False),
        ("if a <b and c> d", False),
        ("write to <ann@example.org>", False),
    ],
)
def test_words_in_angle_brackets_are_no_html(text: str, html: bool, tmp_path: Path) -> None:
    rows = [*clean_rows(), {"text": text, "label": "x", "id": "", "size": "1"}]
    assert any("HTML" in finding.message for finding in findings_of(rows, tmp_path)) == html


FILES = {
    "the text first": 'text,label\n"oops starts,x\n"fine is it",y\n',
    "the text last": 'label,text\nx,"oops starts\ny,"fine is it"\n',
    "the text between": 'id,text,label\n1,"oops starts,x\n2,"fine is it",y\n',
    "rows between": 'label,text\nx,"oops starts\ny,a plain one\ny,"fine is it"\n',
    "semicolons": 'label;size;text\nx;1;"oops; starts\nvery bad;2;"fine is it"\n',
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_quotation_mark_that_is_never_closed_is_found(content: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content, newline="")
    broken = [{"text": text, "label": "x"} for text in read(path).train.values("text")]
    assert [finding for finding in findings_of([*clean_rows(), *broken], tmp_path) if "the next one" in finding.message]


@pytest.mark.parametrize(
    "text",
    [
        'He said, "No."\nShe left, saying "fine, bye"',
        'Dear Ann,\nthe new one is, I think, 27"',
        'It is good.\nIn short, buy it; the screen has 27"',
        'First line\nsecond line 27"',
        '"Whole, in quotes\nand more, of it"',
        'a,b\nc,d "e" and f"',
        'one, two; three\n\n- four, five: 6"',
        "a,b\nc,d",
        'x,y and 27"',
        'list:\n\tfirst, 5"\n',
        '\tindented\n\tmore 5"',
    ],
)
def test_texts_with_quotes_and_line_breaks_are_no_rows_run_together(text: str, tmp_path: Path) -> None:
    rows = [*clean_rows(), {"text": text, "label": "x", "id": "", "size": "1"}]
    assert not [finding for finding in findings_of(rows, tmp_path) if "the next one" in finding.message]


def test_a_label_of_every_row_has_all_of_them(tmp_path: Path) -> None:
    columns = Columns(("text",), ("label",))
    rows = [{"text": row["text"], "label": ["a", "b"]} for row in clean_rows(100)]
    rows[3]["label"], rows[4]["label"] = ["a", "b", "c"], ["a", "c"]
    split = split_rows(clean(read(rows), columns), columns, SplitSettings(), sealed_folder=tmp_path)
    found = [one.message for one in run_checks(view_of(split, columns, "multi-label")) if "lopsided" in one.message]
    assert found
    assert "'a' has 80 rows (100%)" in found[0]


def test_who_left_labels_empty_is_told_how_to_keep_such_rows() -> None:
    rows = [{"text": f"text {i}", "label": "a;b" if i % 2 else ""} for i in range(20)]
    for several in (False, True):
        (found,) = clean(read(rows), Columns(("text",), ("label",)), several=several).findings
        assert found.message == "10 of 20 rows have no target in 'label' and are left out."
        assert ("[]" in found.fix) == several


def test_a_check_that_raises_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = catalog.Member("whet.data.nowhere:check", "broken")
    monkeypatch.setitem(catalog.CHECKS, "broken", broken)
    found = findings_of(clean_rows(), tmp_path)
    assert [finding.check for finding in found] == ["broken"]
    assert "failed and was left out" in found[0].message


def test_checks_read_no_test_targets() -> None:
    source = read(clean_rows()).train
    columns = Columns(("text",), ("label",))
    view = CheckView({"train": source, "test": source.without(("label",))}, columns, {}, "classification")
    view = CheckView(view.splits, columns, {"test": None}, "classification")  # type: ignore[dict-item]
    assert not [finding for finding in run_checks(view) if "failed" in finding.message]


def test_groups_on_two_sides_are_told() -> None:
    rows = read([{**row, "who": f"p{i % 7}"} for i, row in enumerate(clean_rows())]).train
    splits = {"train": rows.select(np.arange(300)), "valid": rows.select(np.arange(300, 400))}
    view = CheckView(splits, Columns(("text",), ("label",), group="who"), {}, "classification")
    assert any("share a value of 'who'" in finding.message for finding in run_checks(view))


def test_numbers_that_follow_the_target_are_told() -> None:
    rows = [{"text": f"word {i}", "label": i * 0.5, "double": i, "noise": i * 7 % 11} for i in range(100)]
    view = CheckView({"train": read(rows).train}, Columns(("text",), ("label",)), {}, "regression")
    told = [finding.message for finding in run_checks(view) if finding.check == "leaking-columns"]
    assert told == ["Column 'double' gives the target away. It is not read by the model."]


def test_columns_are_described() -> None:
    rows = read(
        [{"text": "a b", "n": 1.5, "code": "007", "yes": True, "tags": ["x"]}, {"text": None, "code": "8"}]
    ).train
    found = {summary.name: summary for summary in describe_columns(rows)}
    assert [found[name].kind for name in rows.names] == ["text", "number", "text", "boolean", "list"]
    assert found["text"].missing == 1
    assert found["text"].mean_length == 3
    assert found["code"].numeric_share == 1.0
    assert found["text"].numeric_share == 0.0


def test_only_what_has_no_visible_character_is_missing() -> None:
    texts = ["", None, " \t\n", "\u00a0\u3000", "\u200b\ufeff", "a", "é", "漢", " . ", "🚀"]
    column = read({"text": texts}).train.table.column("text").combine_chunks()
    assert missing_mask(column).tolist() == [True] * 5 + [False] * 5

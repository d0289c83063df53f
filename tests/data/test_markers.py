"""Laws of missing markers: among numbers they are missing values; among words they are words."""

from pathlib import Path

import pytest

from whet import api
from whet.checking import Checked
from whet.errors import DataError

NUMBERS = [f"{i * 7 % 50 / 10:.1f}" for i in range(100)]


def checked(tmp_path: Path, targets: list[str], **more: object) -> Checked:
    path = tmp_path / "rows.csv"
    path.write_text("text,score\n" + "".join(f"text number {i},{target}\n" for i, target in enumerate(targets)))
    return api.check(path, "score", **more)  # type: ignore[arg-type]


def every_twentieth(marker: str, values: list[str]) -> list[str]:
    return [marker if i % 20 == 3 else value for i, value in enumerate(values)]


@pytest.mark.parametrize("marker", ["NA", "N/A", "nan", "null", "None", "-", " n/a "])
def test_a_marker_among_numbers_is_an_empty_cell(tmp_path: Path, marker: str) -> None:
    marked = checked(tmp_path, every_twentieth(marker, NUMBERS))
    empty = checked(tmp_path, every_twentieth("", NUMBERS))
    assert marked.task.kind == empty.task.kind == "regression"
    assert marked.split.train.ids.tolist() == empty.split.train.ids.tolist()
    said = "\n".join(f"{one.message} {one.where}" for one in marked.findings)
    assert "5 of 100 rows have no target in 'score'" in said
    assert "row 4, column 'score'" in said
    assert "counts as missing" in said


def test_a_marker_among_numbered_classes_is_no_class(tmp_path: Path) -> None:
    found = checked(tmp_path, every_twentieth("NA", [str(i % 3) for i in range(100)]))
    assert found.task.kind == "classification"
    assert found.task.prepare(found.split.train, found.columns)[0]["labels"] == ["0", "1", "2"]


def test_a_marker_among_words_is_a_class(tmp_path: Path) -> None:
    found = checked(tmp_path, ["none" if i % 2 else "spam" for i in range(60)])
    assert found.task.prepare(found.split.train, found.columns)[0]["labels"] == ["none", "spam"]


def test_a_few_words_that_make_classes_of_a_number_are_said_with_the_row(tmp_path: Path) -> None:
    found = checked(tmp_path, [*NUMBERS[:70], "about 3", *NUMBERS[70:]])
    assert found.task.kind == "classification"
    warning = next(one for one in found.findings if one.check == "task")
    assert "'about 3'" in warning.message
    assert "row 71, column 'score'" in warning.where
    assert "task.name=regression" in warning.fix


def test_where_such_words_leave_nothing_to_hold_out_the_error_names_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)'about 3'.*row 61.*task\.name=regression"):
        checked(tmp_path, [*(f"{i / 7:.3f}" for i in range(60)), "about 3"])


def test_an_infinite_target_is_refused_by_its_cell(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)'inf'.*row 8, column 'score'"):
        checked(tmp_path, [*NUMBERS[:7], "inf", "nan", *NUMBERS[9:]])

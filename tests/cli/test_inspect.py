"""``whet inspect`` as a user calls it."""

import json
from pathlib import Path

from .conftest import QUICK, Command, write_rows


def test_a_model_is_shown_with_its_parts_cuts_and_methods(whet: Command, tiny_model: Path) -> None:
    answer = whet("inspect", tiny_model)
    assert answer.code == 0
    for word in ("sha256", "Parts", "layer.2", "Cuts", "before block 3 of 3", "Methods", "top-layers"):
        assert word in answer.out


def test_rows_add_a_score_for_every_block_and_words_to_try(whet: Command, tiny_model: Path, here: Path) -> None:
    rows = write_rows(here / "rows.csv")
    answer = whet("inspect", tiny_model, "--data", rows, "--target", "label", *QUICK)
    assert answer.code == 0, answer
    for word in (
        "64 train, 16 test",
        "no features",
        "before block 1",
        "block 3 of 3",
        "← cut",
        "--method",
        "cannot say",
    ):
        assert word in answer.out


def test_json_is_one_object_with_nothing_around_it(whet: Command, tiny_model: Path, here: Path) -> None:
    rows = write_rows(here / "rows.csv")
    answer = whet("inspect", tiny_model, "--data", rows, "--target", "label", "--json", *QUICK)
    found = json.loads(answer.out)
    assert answer.err == ""
    assert [block["depth"] for block in found["probe"]["blocks"]] == [0, 1, 2, 3]
    assert sum(part["parameters"] for part in found["parts"]) == found["parameters"]


def test_what_cannot_work_is_refused(whet: Command, tiny_model: Path, here: Path) -> None:
    rows = write_rows(here / "rows.csv")
    for words, said in (
        (("nowhere",), "no model"),
        ((tiny_model, "--target", "label"), "--data"),
        ((tiny_model, "--data", rows), "--target"),
        ((tiny_model, "--data", rows, "--target", "lable"), "'label'"),
        ((tiny_model, "--data", "absent.csv", "--target", "label"), "There is no file"),
        ((tiny_model, "--set", "method.count=2"), "every method"),
    ):
        answer = whet("inspect", *words)
        assert answer.code == 2
        assert said in answer.err
        assert "Traceback" not in answer.err

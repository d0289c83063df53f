"""What a newcomer ran into, each kept from coming back."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import whet
from plain import PLAIN, finetuned, rows_of
from whet.errors import ConfigError, DataError, RunError
from whet.report.section_use import commands, python_with_whet


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_a_folder_reached_by_way_of_one_that_is_not_there_is_looked_into(here: Path, tiny_model: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "README.md").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        finetuned(rows_of(), tiny_model, out="mine/new/..")
    assert [path.name for path in (here / "mine").iterdir()] == ["README.md"]


def test_copies_of_test_rows_are_one_piece_of_evidence(tiny_model: Path) -> None:
    rows = rows_of(rows=60)
    once, often = finetuned(rows, tiny_model, out="once"), finetuned(rows * 6, tiny_model, out="often")
    assert len(often.predictor.labels) == len(once.predictor.labels)
    (note,) = [note for note in often.judgements[0].notes if "different texts" in note]
    assert f"The {often.judgements[0].rows} test rows hold only {often.judgements[0].rows // 6} different texts" in note
    single, repeated = (one.judgements[0].scores["model"][0] for one in (once, often))
    assert repeated.high - repeated.low > 0.8 * (single.high - single.low)
    assert not [note for note in once.judgements[0].notes if "different texts" in note]


def test_copies_count_once_when_a_run_is_judged_again(here: Path, tiny_model: Path) -> None:
    finetuned(rows_of(), tiny_model)
    fresh = rows_of(rows=30, seed=7)
    (here / "new.jsonl").write_text("\n".join(map(json.dumps, fresh * 5)))
    found = whet.evaluate("run", "new.jsonl")
    assert any("hold only 30 different texts" in note for note in found.notes)


def test_groups_held_out_by_time_say_what_is_not_later(tiny_model: Path) -> None:
    rows = [row | {"who": n % 9, "when": f"2024-{1 + n // 9:02d}-{1 + n % 9:02d}"} for n, row in enumerate(rows_of())]
    result = finetuned(rows, tiny_model, group="who", time_column="when")
    (said,) = [one for one in result.story.data.findings if "earlier than the latest training row" in one.message]
    assert (said.level, said.count > 0) == ("warning", True)
    assert "held out by whole groups (who), those that reach latest (when)" in result.story.data.split
    alone = finetuned(rows, tiny_model, time_column="when", out="alone")
    assert not [one for one in alone.story.data.findings if "earlier than the latest" in one.message]


def test_examples_of_a_model_of_pairs_are_pairs(here: Path, tiny_model: Path) -> None:
    rows = [row | {"other": row["text"][::-1]} for row in rows_of(rows=60)]
    finetuned(rows, tiny_model, text=["text", "other"], method="top-layers", settings=[*PLAIN, "training.epochs=1"])
    story = whet.api.story_of("run")
    assert commands(story).splitlines()[0] == 'whet predict run "a new text" "another text"'
    assert python_with_whet(story).endswith('model.predict([("a new text", "another text")])')
    assert len(whet.load("run").predict([("a new text", "another text")])) == 1
    assert 'model.encode([("a new text", "another text")])' in story.model.python


@pytest.mark.parametrize("head", ["pooled", "native"])
def test_plain_loading_as_the_card_shows_it_reads_a_long_text_up_to_the_window(
    head: str, here: Path, tiny_model: Path
) -> None:
    result = finetuned(rows_of(), tiny_model, head=head, max_length=16)
    code = result.story.model.python
    for line in ("outputs", "classify("):
        code = code.replace("a new text", "good words " * 300) if line in code else code
    assert result.story.model.window == 16
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_second_column_of_texts_is_not_passed_over_in_silence(here: Path, tiny_model: Path) -> None:
    rows = [row | {"other": row["text"][::-1], "id": f"row {n}"} for n, row in enumerate(rows_of())]
    found = whet.check(rows, "target")
    (said,) = [one for one in found.findings if one.check == "columns"]
    assert {"text", "other"} == {name for name in ("text", "other", "id") if repr(name) in said.message}
    assert not [one for one in whet.check(rows, "target", text="text").findings if one.check == "columns"]


def test_notes_that_are_not_shown_are_not_denied(capfd: pytest.CaptureFixture[str]) -> None:
    from whet.cli import make_console
    from whet.data.rows import Finding
    from whet.report.terminal import print_findings

    print_findings([Finding("x", "info", "A note.", "here", "nothing")], make_console(), "warning")
    print_findings([], make_console(), "warning")
    first, second = capfd.readouterr().out.strip().splitlines()
    assert "nothing to mend. 1 note is in the report." in first
    assert second.endswith("The checks found nothing to mend.")


def test_answers_replace_answers_and_nothing_else(here: Path, tiny_model: Path) -> None:
    finetuned(rows_of(), tiny_model)
    (here / "new.csv").write_text("text\na\nb\n")
    (here / "new.predicted.csv").write_text("precious\n")
    with pytest.raises(ConfigError, match="not of whet"):
        whet.api.predict_file("run", "new.csv")
    assert (here / "new.predicted.csv").read_text() == "precious\n"
    (here / "new.predicted.csv").unlink()
    for _ in range(2):
        whet.api.predict_file("run", "new.csv")


def test_an_average_by_validation_is_refused_at_once_where_no_stage_has_any(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="has no validation loss") as error:
        finetuned(rows_of(), tiny_model, method="contrastive", settings=[*PLAIN, "training.average=soup"])
    assert "--valid" not in str(error.value)


def test_a_mistyped_run_is_named_where_the_target_was_left_to_it(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no run 'runs/frist'"):
        whet.finetune(rows_of(), model="runs/frist")


def test_resuming_nothing_says_so_and_invents_no_folder() -> None:
    with pytest.raises(RunError, match="no unfinished run to resume, and no rows"):
        whet.finetune(resume=True)


def test_numbers_with_units_are_hinted_at(here: Path) -> None:
    rows = [{"text": f"thing number {n} of a list", "target": f"{n},50 €"} for n in range(60)]
    with pytest.raises(DataError, match="without units or thousands separators"):
        whet.check(rows, "target")


@pytest.mark.parametrize(("values", "said"), [(5, "names of classes"), (2, None), (25, "a quantity")])
def test_whole_numbers_are_said_to_be_taken_for_one_thing_or_the_other(values: int, said: str | None) -> None:
    rows = [row | {"target": n % values} for n, row in enumerate(rows_of(rows=300))]
    found = [one.message for one in whet.check(rows, "target").findings if one.check == "task"]
    assert (said is None and not found) or (len(found) == 1 and str(said) in found[0])
    named = whet.check(rows, "target", settings=["task=classification"])
    assert not [one for one in named.findings if one.check == "task"]


def test_a_run_is_inspected_with_its_own_head(here: Path, tiny_model: Path) -> None:
    result = finetuned(rows_of(), tiny_model)
    classes = len(result.predictor.labels)
    assert classes > 2
    assert whet.inspect("run").outputs == classes


def test_a_check_as_json_says_what_was_read_even_where_nothing_is_wrong(here: Path) -> None:
    (here / "rows.jsonl").write_text("\n".join(map(json.dumps, rows_of())))
    done = subprocess.run(
        [sys.executable, "-m", "whet", "check", "rows.jsonl", "--target", "target", "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["task"], sum(last["rows"].values())) == ("classification", 90)
    assert np.all(np.array(list(last["classes"].values())) > 0)

"""Laws of the terminal: the same words with and without colour, and no label steers it."""

import io
import json
import re
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from whet.report import terminal
from whet.report.card import markdown, render_card
from whet.report.html import render_report
from whet.report.lines import (
    cost_words,
    data_lines,
    display_width,
    finding_lines,
    fit_encoding,
    ladder_lines,
    padded,
    plain,
    plan_lines,
    table_lines,
    verdict_lines,
)
from whet.report.story import Cost, Story, as_record, from_record
from whet.report.words import account_words, cost_of
from whet.trackers.tracker import Account, Figure

from . import stories
from .pages import Page

NASTY = "[bold]x[/bold] [/] \x1b[31mred\x1b[0m\r\x07\x9b2J \n<b>"


def printed(story: Story, terminal_codes: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=90, force_terminal=terminal_codes, no_color=not terminal_codes)
    terminal.print_data(story.data, console)
    terminal.print_findings(story.data.findings, console)
    terminal.print_checked(story.data.findings, console)
    terminal.print_brief({"method": "probe"}, story.forecast, console)
    terminal.print_plan(story.plan, console)
    terminal.print_verdict(story, console)
    return stream.getvalue()


def test_a_run_ends_with_scores_answer_and_report(any_story: Story) -> None:
    text = printed(any_story)
    assert all(one.verdict.sentence[:30] in text for one in any_story.judgements)
    assert f"{any_story.path}/report.html" in text


def test_plain_lines_say_what_the_terminal_says() -> None:
    story = stories.story()
    lines = verdict_lines(story, 90)
    assert plain(lines).strip() in printed(story)


@given(text=st.text(max_size=40))
@example(text=NASTY)
def test_no_label_steers_the_terminal(text: str) -> None:
    story = stories.named(text)
    said = printed(story) + plain([*data_lines(story.data), *verdict_lines(story), *plan_lines(story.plan)])
    assert not any((ord(sign) < 32 and sign != "\n") or 127 <= ord(sign) < 160 for sign in said)


def test_markup_of_rich_in_a_message_is_shown() -> None:
    assert "[bold]" in printed(stories.named("[bold]x[/bold]"))


def test_lines_keep_within_the_width() -> None:
    finding = replace(stories.story().data.findings[0], message="word " * 60)
    for line in plain(finding_lines([finding], 70)).splitlines():
        assert len(line) <= 70


def test_errors_come_first_and_the_level_hides_the_rest() -> None:
    findings = stories.story().data.findings
    everything, errors = plain(finding_lines(findings)), plain(finding_lines(findings, level="error"))
    assert everything.index("two targets") < everything.index("empty text") < everything.index("HTML")
    assert "two targets" in errors
    assert "HTML" not in errors


@given(text=st.text(max_size=30), width=st.integers(min_value=1, max_value=12))
def test_padding_always_fills_the_cell(text: str, width: int) -> None:
    assert display_width(padded(text, width)) == width


def test_a_machine_is_told_whole_in_any_width() -> None:
    stream = io.StringIO()
    found = "float32 17, float32-medium 21, bfloat16 351 GFLOP/s, while other programs ran " * 3
    terminal.print_doctor([{"what": "chosen", "found": found}], Console(file=stream, width=60))
    assert stream.getvalue().replace("chosen", "").split() == found.split()
    assert all(len(line) <= 60 for line in stream.getvalue().splitlines())


def test_a_plan_leaves_out_what_is_empty() -> None:
    plan = {"training": {"freeze": [], "rate": 0.1, "loss": "", "optimizer": {"name": "adamw", "extra": {}}},
            "forecast": {"parts": {}, "gain": ""}, "track": [], "seed": 0}  # fmt: skip
    assert " ".join(plain(plan_lines(plan)).split()) == "training rate 0.1 · optimizer (name adamw) run seed 0"


def test_that_a_run_was_stopped_stands_apart_from_what_it_took() -> None:
    assert re.search(r"\) · stopped by you", printed(replace(stories.story(), interrupted=True)))


def test_a_table_reads_units_from_its_keys() -> None:
    records = [
        {"name": "probe", "parameters": 22_713_216, "took_seconds": 75.0, "size_bytes": 2**20, "packaged": True},
        {"name": "a name that is very long indeed " * 4, "parameters": None},
    ]
    text = plain(table_lines(records, 70))
    assert "22.7 M" in text
    assert "1 min 15 s" in text
    assert "1.0 MiB" in text
    assert all(len(line) <= 70 for line in text.splitlines())


def test_a_console_without_unicode_gets_plain_signs() -> None:
    text = plain(verdict_lines(stories.story(), 100))
    assert "├" in text
    fitted = fit_encoding(text, "ascii")
    assert "|" in fitted
    assert fitted.isascii()


def test_a_plan_leaves_out_what_is_not_set() -> None:
    text = plain(plan_lines({"data": {"group": None, "source": "a.csv"}, "seed": 3}))
    assert "group" not in text
    assert "source a.csv" in text


def test_the_ladder_is_told_with_gain_bounds_and_cost() -> None:
    lines = plain(ladder_lines(stories.story(), 100)).splitlines()
    assert "320 rows kept for choosing" in lines[0]
    (full,) = (line for line in lines if line.strip().startswith("full"))
    assert all(word in full for word in ("−0.2 points", "(−1.1 to +1.4)", "20x", "not kept"))
    alone = replace(stories.story(), rungs=stories.story().rungs[:1])
    assert ladder_lines(alone, 100) == []


def test_what_a_tracker_found_out_is_told_everywhere_and_called_estimated_where_it_is() -> None:
    figures = (Figure(name="water", words="3.1 l"), Figure(name="heat", words="0.2 K"))
    account = Account(figures=figures, estimated=True, how="from the pump's rating", record={"litres": 3.1})
    story = replace(stories.story(), accounts={"cooling": account}, views={"mine": "mine --show run/tracks"})
    told = "3.1 l, 0.2 K, estimated"
    (line,) = (line for line in printed(story).splitlines() if line.startswith("  cooling "))
    assert line.split(maxsplit=1)[1] == told
    page = Page(render_report(story)).text
    assert f"{told}; from the pump's rating" in page
    assert "estimated, 3.1 l" in page
    assert "estimated, 0.2 K" in page
    assert f"- cooling: {markdown(told)}; from the pump's rating" in render_card(story)
    assert from_record(json.loads(json.dumps(as_record(story)))) == story
    sure = account_words(replace(account, estimated=False, how=""), how=True)
    assert sure == "3.1 l, 0.2 K"


def test_a_run_that_ended_early_is_compared_with_the_forecast_for_its_steps() -> None:
    assert cost_of(48.0, 51.0, 51.0) == "48 s (forecast 51 s)"
    assert cost_of(30.0, 51.0, 31.0) == "30 s (forecast 51 s, 31 s for the steps taken)"


def test_a_forecast_of_a_ladder_is_a_range() -> None:
    assert cost_words(Cost(seconds=51.0, least_seconds=20.0)) == "20 s to 51 s"

"""Laws of the page: it is whole, it loads nothing, and no text of a user becomes markup."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from whet.report.card import render_card
from whet.report.html import render_report, write_report
from whet.report.lines import plain, verdict_lines
from whet.report.notebook import result_html
from whet.report.story import Story

from . import stories
from .pages import Page

NASTY = "<script>alert(1)</script><img src=x onerror=1>\"'&amp;</style></title>,\n🎉\x00\u202e"
HARMLESS = [tag for tag, _ in Page(render_report(stories.named("x"))).tags]


def test_every_kind_of_story_becomes_a_well_nested_page(any_story: Story) -> None:
    page = Page(render_report(any_story))
    assert page.faults == []
    assert all(one.verdict.sentence in page.text for one in any_story.judgements)


def test_a_page_loads_nothing_and_may_run_one_script_alone(any_story: Story) -> None:
    text = render_report(any_story)
    page = Page(text)
    for name, attributes in page.tags:
        assert name not in {"iframe", "object", "embed", "img", "base", "form"}
        assert attributes.get("src") is None
        assert (attributes.get("href") or "#").startswith(("#", "data:"))
        assert not any(key.startswith("on") for key in attributes)
    assert not re.search(r"url\(|@import", text)
    assert [name for name, _ in page.tags].count("script") == 1
    policy = next(one["content"] for name, one in page.tags if name == "meta" and "http-equiv" in one)
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
@example(text=NASTY)
@example(text="]]>--><!--")
def test_no_text_of_a_user_becomes_markup(text: str) -> None:
    page = Page(render_report(stories.named(text)))
    assert [tag for tag, _ in page.tags] == HARMLESS
    assert page.faults == []


@given(text=st.text(max_size=40))
@example(text=NASTY)
def test_a_notebook_fragment_shows_texts_and_runs_nothing(text: str) -> None:
    page = Page(result_html(stories.named(text)))
    assert {tag for tag, _ in page.tags} <= {"div", "strong", "p", "table", "thead", "tbody", "tr", "th", "td"}
    assert page.faults == []


def test_a_script_in_a_label_is_shown_letter_by_letter() -> None:
    page = Page(render_report(stories.named("<script>alert(1)</script>")))
    assert "a<script>alert(1)</script>" in page.text


def test_every_section_of_several_test_sets_says_which_one() -> None:
    text = Page(render_report(stories.two_tests())).text
    assert "Scores · test" in text
    assert "Scores · may_tickets.csv" in text


def test_anchors_of_the_contents_exist(any_story: Story) -> None:
    page = Page(render_report(any_story))
    ids = {attributes.get("id") for _, attributes in page.tags}
    links = {(attributes.get("href") or "")[1:] for tag, attributes in page.tags if tag == "a"}
    assert links <= ids


def test_every_picture_is_told_in_words_or_hidden(any_story: Story) -> None:
    for tag, attributes in Page(render_report(any_story)).tags:
        if tag == "svg" and "overflow" not in attributes:  # arrows are drawn inside a hidden picture
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


def test_numbers_that_are_no_numbers_are_shown_as_a_dash() -> None:
    judged = stories.judgement()
    bad = tuple(
        replace(score, value=float("nan"), low=float("nan"), high=float("nan")) for score in judged.scores["model"]
    )
    none = replace(judged.comparisons[0], point=0.0, low=float("-inf"), high=float("inf"))
    page = Page(render_report(stories.story((replace(judged, scores={"model": bad}, comparisons=(none,)),))))
    assert page.faults == []
    assert not re.search(r"\bnan\b|\binf\b", page.text)


@pytest.mark.parametrize(
    "say",
    [
        lambda story: Page(render_report(story)).text.partition("How to read this page")[0],
        render_card,
        lambda story: plain(verdict_lines(story, 100)),
    ],
)
def test_differences_of_an_error_are_percent_of_the_baselines(say: Callable[[Story], str]) -> None:
    error = replace(stories.regression(), rungs=())
    assert not re.search(r"\bpoints?\b(?! at)", say(error))
    assert re.search(r"\bpoints\b", say(stories.story()))


def test_a_ladder_of_one_rung_compares_nothing() -> None:
    first, *others = stories.story().rungs
    untried = [replace(one, trainable_parameters=0, steps=0, score=None, gain=None, kept=False) for one in others]
    rungs = (replace(first, score=None), *untried)
    text = Page(render_report(replace(stories.story(), rungs=rungs))).text
    assert "The ladder" in text
    assert "best of" not in text
    assert text.count("solved") == Page(render_report(replace(stories.story(), rungs=rungs[:1]))).text.count("solved")


def test_two_hundred_classes_stay_a_small_file() -> None:
    assert len(render_report(stories.many_classes(200)).encode()) < 500_000


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = write_report(stories.story(), tmp_path / "report.html")
    before = target.read_bytes()

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_report(stories.multi_label(), target)
    assert target.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"0": 121, "1": 151}, "2 classes in train: 1 with 151 rows, 0 with 121"),
        ({"a": 3, "b": 9, "c": 1}, "3 classes in train: from b with 9 rows to c with 1"),
    ],
)
def test_class_counts_keep_names_and_numbers_apart(counts: dict[str, int], words: str) -> None:
    story = stories.story()
    text = re.sub(r"<[^>]+>", "", render_report(replace(story, data=replace(story.data, class_counts=counts))))
    assert words in text

"""How does a result look in a notebook cell? The verdict and the scores, in the notebook's own colours."""

from whet.evaluation.records import Judgement
from whet.report.lines import ICONS
from whet.report.markup import Html, join, tag
from whet.report.section_verdict import compared
from whet.report.story import Story
from whet.report.words import (
    duration,
    gained,
    in_points,
    interval_text,
    learner_name,
    metric_name,
    score_text,
)

_COLOURS = {
    "better": "#1a9a58",
    "not worse": "#1a9a58",
    "not better": "#d0492f",
    "forgets": "#d0492f",
    "cannot tell": "#c98a10",
}
_CELL = "text-align:right;padding:2px 14px 2px 0"
_NAME = "text-align:left;padding:2px 14px 2px 0"


def result_html(story: Story) -> str:
    """A small fragment for ``_repr_html_``: inline styles alone, readable on light and dark pages."""
    parts = [_judgement(one) for one in story.judgements]
    if not parts:
        parts = [tag("p", "Not judged: this run had no test rows.")]
    foot = f"{story.name} · {story.method} · {duration(story.seconds)} · report: {story.path}/report.html"
    return tag("div", *parts, tag("p", foot, style="opacity:.7;margin:8px 0 0;font-size:90%"), class_="whet-result")


def _judgement(judgement: Judgement) -> Html:
    verdict = judgement.verdict
    edge = f"border-left:5px solid {_COLOURS[verdict.answer]};padding:2px 0 2px 14px;margin:4px 0 10px"
    sentence = tag("strong", f"{ICONS[verdict.answer][0]} {verdict.sentence}", style="font-size:115%")
    below = tag("div", f"{judgement.test}: {compared(judgement)}", style="opacity:.75;margin:3px 0 6px")
    return tag("div", sentence, below, _table(judgement), style=edge)


def _table(judgement: Judgement) -> Html:
    differences = {one.baseline: gained(in_points(one)[0], one.relative) for one in judgement.comparisons}
    rows = [
        tag(
            "tr",
            tag("td", learner_name(learner), style=_NAME),
            tag("td", score_text(found[0]), style=_CELL),
            tag("td", interval_text(found[0]), style=_CELL),
            tag("td", differences.get(learner, ""), style=_CELL),
        )
        for learner, found in judgement.scores.items()
        if found
    ]
    names = ["", metric_name(judgement.metric), "95% interval", "gained"]
    head = tag("tr", *(tag("th", name, scope="col", style=_CELL) for name in names))
    return tag("table", tag("thead", head), tag("tbody", join(rows)), style="border-collapse:collapse")

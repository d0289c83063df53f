"""Which rows should somebody look at? The most confident errors of one test set, with their text."""

from whet.evaluation.records import Judgement
from whet.report.markup import Html, details, join, label, tag, thumbnail
from whet.report.story import Example, Story
from whet.report.words import NOTHING, count, percent

SHOWN_AT_ONCE = 8


def rows(story: Story, judgement: Judgement) -> Html:
    """The worst errors, the first eight at once and the others behind a fold."""
    cards = [row_card(story.example(judgement.test, row), row, story.task == "regression") for row in judgement.worst]
    if not cards:
        return Html("")
    lead = "Most confidently wrong first. A wrong label in the data looks exactly like this: read them before tuning."
    if story.task == "regression":
        lead = "Largest errors first. A wrong target in the data looks exactly like this: read them before tuning."
    sheet = "cards sheet" if any(one.thumbnail for one in story.examples) else "cards"
    more = cards[SHOWN_AT_ONCE:]
    rest = details(f"{count(len(more))} more", tag("div", *more, class_=sheet)) if more else None
    return join([tag("p", lead, class_="lead"), tag("div", *cards[:SHOWN_AT_ONCE], class_=sheet), rest])


def row_card(example: Example | None, row_id: int, numbers: bool = False) -> Html:
    """One row: where it is, its text, what was right and what was answered."""
    where = tag("span", f"row {count(row_id + 1)}", class_="where")
    if example is None:
        return tag("div", where, class_="card")
    sure = None if example.confidence is None else tag("span", f"{percent(example.confidence, 0)} sure", class_="sure")
    target, said = _labels(example.target, "target", numbers), _labels(example.predicted, "predicted", numbers)
    text = tag("blockquote", example.text if example.text.strip() else "(empty)", dir="auto")
    facts = tag("p", where, target, said, sure, class_="facts")
    if example.thumbnail:
        return tag("div", thumbnail(example.thumbnail, example.text), tag("div", facts, text), class_="card shown")
    return tag("div", facts, text, class_="card")


def _labels(labels: tuple[str, ...], kind: str, numbers: bool) -> Html | None:
    if not labels:
        return tag("span", kind, " ", tag("em", NOTHING if numbers else "none")) if kind == "predicted" else None
    return tag("span", kind, " ", *(tag("span", label(one), class_=f"chip {kind}") for one in labels))

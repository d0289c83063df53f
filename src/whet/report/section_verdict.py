"""The top of the page: is it better? One sentence a test set, what was compared, and four figures."""

from whet.evaluation.records import Answer, Comparison, Judgement
from whet.report.markup import Html, join, label, paragraphs, tag
from whet.report.story import Story
from whet.report.words import (
    count,
    duration,
    in_points,
    interval_text,
    joined,
    learner_name,
    metric_name,
    plural,
    points,
    score_text,
    short_count,
)

KINDS: dict[Answer, str] = {
    "better": "better",
    "not worse": "better",
    "not better": "not-better",
    "forgets": "not-better",
    "cannot tell": "cannot-tell",
}
_ICONS = {
    "better": "M13 25 l7 7 l15 -17",
    "not-better": "M14 20 h20 M14 29 h20",
    "cannot-tell": "M18 19 a6 6 0 1 1 8.5 5.4 c-1.8 .9 -2.5 1.8 -2.5 4 M24 34.5 v.1",
}


def verdicts(story: Story) -> Html:
    """The answer for each test set, in words, colour and icon."""
    if not story.judgements:
        words = "Not judged: this run had no test rows, so nothing here says how good the model is."
        return _banner("cannot-tell", words, "no answer", "")
    return join(_verdict(judgement) for judgement in story.judgements)


def _verdict(judgement: Judgement) -> Html:
    verdict = judgement.verdict
    eyebrow = tag("span", label(judgement.test), f" · {plural(judgement.rows, 'row')} · {verdict.answer}")
    return _banner(KINDS[verdict.answer], verdict.sentence, eyebrow, compared(judgement))


def _banner(kind: str, sentence: str, eyebrow: str, below: str) -> Html:
    rim = tag("circle", cx=24, cy=24, r=22, class_="rim")
    icon = tag("svg", rim, tag("path", d=_ICONS[kind]), viewbox="0 0 48 48", aria_hidden="true", class_="icon")
    words = [tag("p", eyebrow, class_="eyebrow"), tag("p", sentence, class_="answer")]
    return tag(
        "div", icon, tag("div", *words, tag("p", below, class_="below") if below else None), class_=f"verdict {kind}"
    )


def compared(judgement: Judgement) -> str:
    """One sentence: what the model was measured against, and how."""
    names = [learner_name(one.baseline) for one in judgement.comparisons]
    rows = "test row" if judgement.rows == 1 else "test rows"
    if not names:
        return f"There was no baseline to compare with, on these {count(judgement.rows)} {rows}."
    return f"Compared with {joined(names)} on the same {count(judgement.rows)} {rows}, row by row."


def figures(story: Story) -> Html:
    """Four numbers of the first test set and the run."""
    tiles = [*_score_tiles(story.judgements[0])] if story.judgements else []
    trained = f"{story.method}, from {short_count(story.model.parameters)} parameters"
    tiles.append(_tile("time in all", duration(story.seconds), trained if story.model.parameters else story.method))
    return tag("dl", *tiles, class_="figures")


def _score_tiles(judgement: Judgement) -> list[Html]:
    score = next(iter(judgement.scores.get("model", ())), None)
    tiles = []
    if score is not None:
        words = f"95% interval {interval_text(score)}"
        tiles.append(_tile(f"{metric_name(score.metric)} on {judgement.test}", score_text(score), words))
    nearest = nearest_baseline(judgement)
    if nearest is not None:
        difference, low, high = in_points(nearest)
        of = f"% of its {metric_name(nearest.metric)}" if nearest.relative else "points"
        words = f"{of}, 95% interval {points(low)} to {points(high)}"
        tiles.append(_tile(f"against {learner_name(nearest.baseline)}, the best baseline", points(difference), words))
    tiles.append(_tile("test rows", count(judgement.rows), "opened once, after training"))
    return tiles


def nearest_baseline(judgement: Judgement) -> Comparison | None:
    """The comparison with the strongest baseline, None when there is none."""
    return min(judgement.comparisons, key=lambda one: one.difference, default=None)


def _tile(name: str, value: str, words: str) -> Html:
    return tag("div", tag("dt", name), tag("dd", tag("strong", value), tag("span", words)))


def notes(story: Story) -> Html:
    """What a reader must know before believing the numbers."""
    sentences = [note for judgement in story.judgements for note in (*judgement.notes, *judgement.dropped)]
    every = dict.fromkeys([*sentences, *story.notes])
    return tag("div", tag("h2", "Good to know"), paragraphs(every), class_="notes") if every else Html("")

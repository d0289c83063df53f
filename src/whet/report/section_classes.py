"""Where is it good and where not? Classes with intervals, confusions, calibration; for numbers, a scatter."""

from collections.abc import Sequence
from itertools import product

from whet.evaluation.records import ClassScore, Judgement
from whet.report.markup import Html, header, join, label, number_cell, table, tag, thumbnail
from whet.report.section_scores import share_cell
from whet.report.story import Story
from whet.report.svg import reliability_plot, scatter_plot
from whet.report.words import count, number, one_line, percent, plural

MOST_CLASSES_IN_A_MAP = 20
MOST_PAIRS, PAIRS_BELOW_A_MAP = 20, 8
PICTURES_A_PAIR = 3


def classes(story: Story, judgement: Judgement) -> Html:
    """Per-class table, confusions, reliability and scatter: what this kind of task has."""
    pictures = [part for part in (reliability(judgement), scatter(story, judgement)) if part]
    parts = [per_class(story, judgement), heat_map(judgement), confused_pairs(story, judgement), *pictures]
    return join(part for part in parts if part)


def per_class(story: Story, judgement: Judgement) -> Html:
    """Precision, recall and F1 of each class or label, worst first."""
    if not judgement.per_class:
        return Html("")
    ordered = sorted(judgement.per_class, key=lambda one: (one.f1.value, one.label))
    noun = "label" if story.task == "multi-label" else "class"
    head = [header(noun), header("rows", "num"), header("F1", "num"), header("", "bar")]
    head += [header("precision", "num"), header("recall", "num")]
    kind = "sortable tall" if len(ordered) > 15 else "sortable"
    caption = f"Each {noun}, worst first, with 95% intervals"
    return table(caption, head, [_class_row(one) for one in ordered], kind)


def _class_row(one: ClassScore) -> Html:
    place = f"--low:{one.f1.low:.3f};--high:{one.f1.high:.3f};--at:{one.f1.value:.3f}"
    bar = tag("td", tag("span", class_="interval", style=place), aria_hidden="true", class_="bar")
    cells = [number_cell(count(one.rows), one.rows), share_cell(one.f1), bar]
    name = tag("th", label(one.label), scope="row")
    return tag("tr", name, *cells, share_cell(one.precision), share_cell(one.recall))


def heat_map(judgement: Judgement) -> Html:
    """The confusion matrix as coloured counts; left out for more than 20 classes."""
    labels = judgement.labels
    if not judgement.confusion or len(labels) > MOST_CLASSES_IN_A_MAP:
        return Html("")
    corner = tag("td", "target ↓ decided →", class_="corner")
    head = [corner, *(tag("th", tag("span", label(name)), scope="col", class_="upright") for name in labels)]
    rows = [_heat_row(labels, index, counts) for index, counts in enumerate(judgement.confusion)]
    return table("Confusion: targets down, decisions across", head, rows, "heat")


def _heat_row(labels: Sequence[str], index: int, counts: Sequence[int]) -> Html:
    total = sum(counts) or 1
    cells = [_heat_cell(amount / total, amount, index == column) for column, amount in enumerate(counts)]
    return tag("tr", tag("th", label(labels[index]), scope="row"), *cells)


def _heat_cell(share: float, amount: int, right: bool) -> Html:
    if not amount:
        return tag("td", "·", class_="none")
    kind = ("right" if right else "wrong") + (" strong" if share > 0.45 else "")
    return tag("td", count(amount), class_=kind, style=f"--share:{0.12 + 0.88 * share:.2f}")


def confused_pairs(story: Story, judgement: Judgement) -> Html:
    """The confusions that happen most, worst first."""
    size = range(len(judgement.confusion))
    wrong = [(judgement.confusion[a][b], a, b) for a, b in product(size, size) if a != b and judgement.confusion[a][b]]
    if not wrong:
        return Html("")
    most = MOST_PAIRS if len(size) > MOST_CLASSES_IN_A_MAP else PAIRS_BELOW_A_MAP
    shown = sorted(wrong, key=lambda one: (-one[0], one[1], one[2]))[:most]
    seen = [wrong_ones(story, judgement, *one[1:]) for one in shown]
    head = [header("target"), header("decided"), header("rows", "num"), header("of the target", "num")]
    head += [header("such as")] if any(seen) else []
    rows = [_pair_row(judgement, *one, some if any(seen) else None) for one, some in zip(shown, seen, strict=True)]
    return table(f"Most confused, of {plural(len(wrong), 'pair')} in all", head, rows, "sortable pairs")


def wrong_ones(story: Story, judgement: Judgement, target: int, decided: int) -> Html:
    """A few pictures of one class that were taken for another."""
    found = story.wrong(judgement.test, judgement.labels[target], judgement.labels[decided])
    return join(thumbnail(one.thumbnail, one.text) for one in found[:PICTURES_A_PAIR])


def _pair_row(judgement: Judgement, amount: int, target: int, decided: int, pictures: Html | None) -> Html:
    share = amount / (sum(judgement.confusion[target]) or 1)
    names = [tag("td", label(judgement.labels[index])) for index in (target, decided)]
    numbers = [number_cell(count(amount), amount), number_cell(percent(share, 0), share)]
    return tag("tr", *names, *numbers, None if pictures is None else tag("td", pictures))


def reliability(judgement: Judgement) -> Html:
    """Does a confidence of 80% mean right in 80% of the rows?"""
    bins = [one for one in judgement.calibration if one[2]]
    if not bins:
        return Html("")
    words = "; ".join(f"confidence {percent(at, 0)}, right {percent(right, 0)}" for at, right, _ in bins)
    plot = reliability_plot(bins, f"Reliability: {words}")
    caption = "Can its confidence be believed? Dots below the line: too sure. Their area is their share of the rows."
    return tag("figure", tag("figcaption", caption), plot, class_="half")


def scatter(story: Story, judgement: Judgement) -> Html:
    """Target against prediction, where the run kept both."""
    pairs = story.scatter.get(judgement.test, ())
    if not pairs:
        return Html("")
    targets = [target for target, _ in pairs]
    words = f"{plural(len(pairs), 'row')}, targets from {number(min(targets))} to {number(max(targets))}"
    caption = "Target and prediction: on the line they are equal"
    return tag("figure", tag("figcaption", caption), scatter_plot(pairs, one_line(words)), class_="half")

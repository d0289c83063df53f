"""What did it learn from? Rows and splits, classes, and what the checks found, with what to do about it."""

from collections.abc import Mapping

from whet.data.rows import Finding
from whet.report.markup import Html, details, join, label, tag
from whet.report.section_rows import row_card
from whet.report.story import DataFacts, Story
from whet.report.words import count, joined, plural

_LEVELS = {"error": "must be mended", "warning": "worth a look", "info": "good to know"}
_ORDER = ("error", "warning", "info")
CLASSES_AT_ONCE = 12


def data(story: Story) -> Html:
    """The data line, splits as bars, class counts, findings."""
    facts = story.data
    lead = [tag("p", tag("strong", label(facts.source)), ": ", _columns(facts), class_="lead")]
    lead += [tag("p", facts.split)] if facts.split else []
    splits = bars("Rows of each split", facts.rows) if facts.rows else None
    return join([*lead, splits, _class_counts(facts.class_counts), findings(story)])


def _columns(facts: DataFacts) -> Html:
    inputs = [label(name) for name in facts.columns.inputs]
    targets = [label(name) for name in facts.columns.target]
    extra = [f", grouped by “{facts.columns.group}”"] if facts.columns.group else []
    extra += [f", in the order of “{facts.columns.time}”"] if facts.columns.time else []
    return join(["from ", join(inputs, ", "), " to ", join(targets, ", "), *extra, "."])


def bars(caption: str, amounts: Mapping[str, float], words: Mapping[str, str] | None = None) -> Html:
    """Names, bars and numbers in one line each; ``words`` replace the numbers."""
    most = max(amounts.values(), default=0) or 1
    lines = [
        tag(
            "li",
            tag("span", label(name), class_="name"),
            tag("span", class_="bar", style=f"--share:{max(amount, 0) / most:.4f}"),
            tag("span", words[name] if words else count(int(amount)), class_="words"),
        )
        for name, amount in amounts.items()
    ]
    return tag("figure", tag("figcaption", caption), tag("ul", *lines, class_="bars"))


def _class_counts(counts: Mapping[str, int]) -> Html | None:
    if not counts:
        return None
    ordered = dict(sorted(counts.items(), key=lambda one: -one[1]))
    most, least = next(iter(ordered)), next(reversed(ordered))  # two classes even where all are alike
    summary = f"{plural(len(counts), 'class').replace('classs', 'classes')} in train: "
    first, between = ("", ", ") if len(counts) == 2 else ("from ", " to ")
    ends = [f" with {plural(counts[most], 'row')}{between}", label(least), f" with {count(counts[least])}"]
    line = join([summary + first, label(most), *ends])
    picture = bars("Rows of each class in train", ordered)
    return details(line, tag("div", picture, class_="columns"), open_=len(counts) <= CLASSES_AT_ONCE)


def findings(story: Story) -> Html | None:
    """Every finding of the checks, the gravest first."""
    found = sorted(story.data.findings, key=lambda one: _ORDER.index(one.level))
    if not found:
        return tag("p", "The checks found nothing to mend.", class_="lead")
    counts = [
        f"{sum(one.level == level for one in found)} {_LEVELS[level]}"
        for level in _ORDER
        if any(one.level == level for one in found)
    ]
    title = tag("h3", f"What the checks found: {joined(counts)}")
    return join([title, tag("div", *(_finding(story, one) for one in found), class_="findings")])


def _finding(story: Story, finding: Finding) -> Html:
    known = [(story.example(finding.part, row), row) for row in finding.row_ids]
    shown = [row_card(example, row) for example, row in known if example is not None]
    places = [f"row {count(row + 1)}" for example, row in known if example is None]
    parts = [
        tag("p", tag("span", _LEVELS[finding.level], class_="level"), " ", tag("strong", finding.message)),
        tag("p", finding.where, join([" · ", ", ".join(places)]) if places else None, class_="where"),
        tag("p", tag("em", "What to do: "), finding.fix) if finding.fix else None,
        details(plural(len(shown), "example"), *shown) if shown else None,
    ]
    return tag("div", *parts, class_=f"finding {finding.level}")

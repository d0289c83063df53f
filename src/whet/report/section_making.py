"""How was it made, and what did it cost? The ladder, learning curves, forecast and actual, the plan."""

from collections.abc import Callable, Mapping
from typing import Any

from whet.report.markup import Html, details, header, join, number_cell, table, tag
from whet.report.section_data import bars
from whet.report.story import CurvePoint, Rung, Story
from whet.report.svg import curve_plot
from whet.report.words import (
    NOTHING,
    clean,
    count,
    duration,
    metric_name,
    metric_value,
    number,
    one_line,
    plural,
    point_unit,
    points,
    short_count,
    size,
    times,
)
from whet.trackers.tracker import Account, Figure


def making(story: Story) -> Html:
    """The method in a sentence, then what there is of ladder, curves, costs and plan."""
    about = join([tag("strong", story.method), ": ", story.summary]) if story.summary else tag("strong", story.method)
    lead = tag("p", about, class_="lead")
    return join([lead, ladder(story), curves(story), costs(story), time_parts(story), plan(story)])


def ladder(story: Story) -> Html | None:
    """Each rung with its gain over the best one before, and why it was kept or not."""
    if not story.rungs:
        return None
    metric = story.judgements[0].metric if story.judgements else ""
    relative = any(rung.relative for rung in story.rungs)
    head = [header("rung"), header("trained", "num"), header("steps", "num"), header("time", "num")]
    head.append(header("× first", "num"))
    head += [
        header(metric_name(metric) or "score", "num"),
        header(f"gain, {point_unit(relative)}", "num"),
        header("kept"),
        header(""),
    ]
    kept = [rung for rung in story.rungs if rung.kept]
    rows = [_rung_row(rung, metric, bool(kept) and rung is kept[-1]) for rung in story.rungs]
    scored = sum(rung.score is not None for rung in story.rungs)
    on = plural(max(rung.rows for rung in story.rungs), "row")
    how = f": best of {scored} rungs, compared on {on} kept for choosing. Gains over the best rung before, with the "
    how += "lower 80% bound, above zero for a rung that is kept on its own strength, and the upper 95% bound"
    return table("The ladder" + (how if scored > 1 else ""), head, rows, "ladder")


def _rung_row(rung: Rung, metric: str, chosen: bool) -> Html:
    score = NOTHING if rung.score is None else metric_value(metric, rung.score)
    gain = NOTHING if rung.gain is None else points(rung.gain)
    low, high = (NOTHING if bound is None else points(bound) for bound in (rung.gain_low, rung.gain_high))
    tried = rung.trainable_parameters > 0
    steps = count(rung.steps) if rung.steps else "solved"
    made = (short_count(rung.trainable_parameters), steps, duration(rung.seconds)) if tried else (NOTHING,) * 3
    cells = [
        number_cell(made[0], rung.trainable_parameters),
        number_cell(made[1], rung.steps),
        number_cell(made[2], rung.seconds),
        number_cell(NOTHING if rung.cost is None else times(rung.cost), rung.cost),
        number_cell(score, rung.score),
        number_cell(gain, rung.gain, f"{low} to {high}" if rung.gain_low is not None else None),
        tag("td", "✓ chosen" if chosen else "✓ kept" if rung.kept else NOTHING),
        tag("td", rung.why, class_="why"),
    ]
    return tag("tr", tag("th", rung.name, scope="row"), *cells, class_="ours" if chosen else None)


def curves(story: Story) -> Html | None:
    """One picture a stage: training loss and validation loss over steps."""
    stages: dict[str, list[CurvePoint]] = {}
    for point in story.curve:
        stages.setdefault(point.stage, []).append(point)
    panels = [_curve(stage, found) for stage, found in stages.items()]
    return tag("div", *panels, class_="panels") if panels else None


def _curve(stage: str, found: list[CurvePoint]) -> Html:
    train = [(float(one.step), one.train_loss) for one in found if one.train_loss is not None]
    valid = [(float(one.step), one.valid_loss) for one in found if one.valid_loss is not None]
    words = f"Learning curve of {one_line(stage, 80)}."
    if train:
        words += f" Training loss from {number(train[0][1])} to {number(train[-1][1])}."
    if valid:
        words += f" Lowest validation loss {number(min(loss for _, loss in valid))}."
    key = tag("span", tag("span", "training", class_="key train"), tag("span", "validation", class_="key valid"))
    return tag("figure", tag("figcaption", f"Loss, {stage} ", key), curve_plot(train, valid, words))


def costs(story: Story) -> Html | None:
    """Forecast beside actual: seconds, memory, disk."""
    kinds: list[tuple[str, float | None, float | None, Callable[[float | None], str]]] = [
        ("time", story.forecast.seconds, story.actual.seconds, duration),
        (
            "time, for the steps taken",
            story.forecast_taken,
            None if story.forecast_taken is None else story.actual.seconds,
            duration,
        ),
        ("peak memory", story.forecast.memory_bytes, story.actual.memory_bytes, size),
        ("disk", story.forecast.disk_bytes, story.actual.disk_bytes, size),
    ]
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            number_cell(say(before), before),
            number_cell(say(after), after),
            number_cell(_ratio(before, after)),
        )
        for name, before, after, say in kinds
        if before is not None or after is not None
    ]
    rows += [_measured(account, figure) for account in story.accounts.values() for figure in account.figures]
    head = [header(""), header("forecast", "num"), header("actual", "num"), header("actual / forecast", "num")]
    return table("Forecast and actual", head, rows) if rows else None


def _measured(account: Account, figure: Figure) -> Html:
    """What a tracker found out; nothing forecasts it."""
    words = f"{'estimated, ' if account.estimated else ''}{figure.words}"
    nothing = number_cell(NOTHING)
    return tag("tr", tag("th", figure.name, scope="row"), nothing, tag("td", words, class_="num"), nothing)


def _ratio(before: float | None, after: float | None) -> str:
    return f"× {after / before:.2f}" if before and after is not None else NOTHING


def time_parts(story: Story) -> Html | None:
    words = {name: duration(seconds) for name, seconds in story.parts.items()}
    return bars("Where the time went", story.parts, words) if story.parts else None


def plan(story: Story) -> Html | None:
    """The resolved plan, as it stands in plan.yaml."""
    if not story.plan:
        return None
    return details("The plan: every setting, as resolved before training", tag("pre", plan_text(story.plan)))


def plan_text(plan: Mapping[str, Any], depth: int = 0) -> str:
    """Nested settings, indented; for people, not for parsers (plan.yaml is for those)."""
    lines = []
    for name, value in plan.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{'  ' * depth}{clean(str(name))}:", plan_text(value, depth + 1)]
        else:
            lines.append(f"{'  ' * depth}{clean(str(name))}: {setting(value)}")
    return "\n".join(lines)


def setting(value: object) -> str:
    """One setting as a reader expects it: 'none', 'yes', '3e-05', 'a, b'."""
    if value is None or (isinstance(value, list | tuple | Mapping) and not value):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(setting(one) for one in value)
    return f"{value:.6g}" if isinstance(value, float) else one_line(str(value))

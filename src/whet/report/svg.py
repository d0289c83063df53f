"""Which pictures does a report need? Intervals on a common axis, learning curves, reliability, a scatter.

Drawn by hand as inline SVG, so that a report needs no plotting library. Interval plots use positions in percent
and stretch with the page while their lines and dots keep their size; every number in them also stands beside
them as text, so there the picture itself is hidden from screen readers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from whet.report.markup import Html, join, tag
from whet.report.words import number

Point = tuple[float, float]
WIDTH, HEIGHT = 440, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 42
MOST_DOTS = 1500


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high``; ``at`` gives the place of one in percent, kept inside."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        return min(1.0, max(0.0, (value - self.low) / ((self.high - self.low) or 1.0)))

    def at(self, value: float) -> str:
        return f"{2 + 96 * self.share(value):.2f}%"

    def outside(self, value: float) -> int:
        return (value > self.high) - (value < self.low)


@dataclass(frozen=True)
class Interval:
    """One row of an interval plot: a value between two bounds, its name and its words."""

    name: Html | str
    value: float
    low: float
    high: float
    words: str
    kind: str = ""


def axis(values: Sequence[float], count: int = 5) -> Axis:
    """An axis around the finite values, with about ``count`` round ticks inside."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    room = 0.06 * (high - low) or abs(high) * 0.05 or 1.0
    low, high = low - room, high + room
    return Axis(low, high, ticks(low, high, count))


def near_axis(
    center: float,
    values: Sequence[tuple[float, float]],
    smallest: float,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Axis:
    """An axis that shows what lies near ``center``; one far baseline may not squeeze the rest into a dot.

    It reaches as far as needed, but at most five times the reach of the nearest of ``values`` (low, high), and never
    beyond ``bounds``.
    """
    reaches = [max(abs(low - center), abs(high - center)) for low, high in values if math.isfinite(low + high)]
    reach = min(max(reaches, default=smallest), 5 * max(min(reaches, default=smallest), smallest))
    shown = [edge for pair in values for edge in pair if abs(edge - center) <= reach]
    found = axis([center, *shown, center - smallest, center + smallest])
    low, high = max(found.low, bounds[0]), min(found.high, bounds[1])
    return Axis(low, high, ticks(low, high, 5))


def ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Round numbers (1, 2 or 5 times a power of ten) between ``low`` and ``high``."""
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next(power * factor for factor in (1, 2, 5, 10) if rough <= power * factor * 1.4)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(index * step, 12) for index in range(first, last + 1))


def interval_plot(caption: str, rows: Sequence[Interval], scale: Axis, unit: str, marks: Sequence[float] = ()) -> Html:
    """A forest plot: name, interval and words in one line each. ``marks`` are vertical lines, the first one strong."""
    lines = [_interval_row(row, scale, marks) for row in rows]
    feet = [
        tag("text", _tick(tick), x=scale.at(tick), y=13, text_anchor="middle", class_="tick") for tick in scale.ticks
    ]
    foot = tag("div", tag("span"), tag("svg", *feet, height=18, aria_hidden="true"), tag("span", unit), class_="foot")
    if any(scale.outside(row.value) for row in rows):
        caption += "; an arrow points at what lies outside"
    body = tag("div", *lines, foot, class_="forest")
    return tag("figure", tag("figcaption", caption), body)


def _interval_row(row: Interval, scale: Axis, marks: Sequence[float]) -> Html:
    grid = [_upright(scale.at(tick), "grid") for tick in scale.ticks]
    grid += [_upright(scale.at(mark), "mark" if index else "zero") for index, mark in enumerate(marks)]
    picture = tag("svg", *grid, *_whisker(row, scale), height=30, aria_hidden="true")
    words = tag("span", row.words, class_="words")
    return tag("div", tag("span", row.name, class_="name"), picture, words, class_=f"row {row.kind}".strip())


def _upright(x: str, kind: str) -> Html:
    return tag("line", x1=x, x2=x, y1=0, y2="100%", class_=kind)


def _whisker(row: Interval, scale: Axis) -> list[Html]:
    if not math.isfinite(row.value):
        return []
    side = scale.outside(row.value)
    if side:
        arrow = "M-7,-6 L1,0 L-7,6" if side > 0 else "M7,-6 L-1,0 L7,6"
        place = tag("svg", tag("path", d=arrow, class_="arrow"), x=scale.at(row.value), y=15, overflow="visible")
        return [place]
    low, high = scale.at(row.low), scale.at(row.high)
    return [
        tag("line", x1=low, x2=high, y1=15, y2=15, class_="whisker"),
        *(tag("line", x1=x, x2=x, y1=10, y2=20, class_="whisker") for x in (low, high)),
        tag("circle", cx=scale.at(row.value), cy=15, r=5, class_="dot"),
    ]


def reliability_plot(bins: Sequence[tuple[float, float, int]], words: str) -> Html:
    """Mean confidence across, share right up; the area of a dot is its share of the rows."""
    unit = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))
    most = max((rows for _, _, rows in bins), default=1) or 1
    dots = [
        tag("circle", cx=_x(unit, at), cy=_y(unit, right), r=round(3 + 9 * math.sqrt(rows / most), 1), class_="bubble")
        for at, right, rows in bins
        if rows
    ]
    line = tag("line", x1=_x(unit, 0), y1=_y(unit, 0), x2=_x(unit, 1), y2=_y(unit, 1), class_="zero")
    return _frame(unit, unit, [line, *dots], "confidence", "share right", words)


def scatter_plot(points: Sequence[Point], words: str) -> Html:
    """Targets across, predictions up, with the line where both are equal. At most 1,500 evenly chosen dots."""
    finite = [point for point in points if math.isfinite(point[0] + point[1])]
    chosen = finite[:: max(1, math.ceil(len(finite) / MOST_DOTS))]
    both = axis([value for point in chosen for value in point])
    dots = [tag("circle", cx=_x(both, a), cy=_y(both, b), r=2.5, class_="speck") for a, b in chosen]
    line = tag(
        "line",
        x1=_x(both, both.low),
        y1=_y(both, both.low),
        x2=_x(both, both.high),
        y2=_y(both, both.high),
        class_="zero",
    )
    return _frame(both, both, [line, *dots], "target", "prediction", words)


def curve_plot(train: Sequence[Point], valid: Sequence[Point], words: str) -> Html:
    """Loss over steps: training as a thin line, validation as a line with dots, its lowest point filled."""
    across = axis([step for step, _ in (*train, *valid)])
    up = axis([loss for _, loss in (*train, *valid)])
    best = min(valid, key=lambda point: point[1], default=None)
    dots = [
        tag("circle", cx=_x(across, a), cy=_y(up, b), r=5 if (a, b) == best else 3, class_="dot valid")
        for a, b in valid
    ]
    lines = [_polyline(train, across, up, "train"), _polyline(valid, across, up, "valid")]
    return _frame(across, up, [*lines, *dots], "step", "loss", words)


def rate_plot(
    losses: Sequence[Point], smoothed: Sequence[Point], marks: Sequence[tuple[str, float, str]], words: str
) -> Html:
    """Loss over learning rate on a logarithmic axis: batches as specks, their smoothed course as a line.

    Args:
        marks: Upright lines: a name, a rate, and how the line is drawn ("zero" is strong, "mark" dashed).
    """
    rates = [*(rate for rate, _ in smoothed), *(rate for _, rate, _ in marks)]
    low, high = math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates)))
    across = Axis(low, high, tuple(range(low, high + 1)))
    turn = min(smoothed, key=lambda point: point[1])[0]  # what grew far beyond it would press the rest flat
    most = max(loss for points in (losses, smoothed) for rate, loss in points if rate <= turn)
    up = axis([most, *(loss for points in (losses, smoothed) for _, loss in points if loss <= most)])
    dots = [
        tag("circle", cx=_x(across, math.log10(rate)), cy=_y(up, loss), r=2.5, class_="speck")
        for rate, loss in losses
        if loss <= up.high
    ]
    line = _polyline([(math.log10(rate), loss) for rate, loss in smoothed if loss <= up.high], across, up, "valid")
    lines = [
        tag("line", x1=(x := _x(across, math.log10(rate))), x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_=kind)
        + tag("text", name, x=x + 5, y=TOP + 11 + 15 * place, class_="tick")
        for place, (name, rate, kind) in enumerate(marks)
    ]
    drawn = [*dots, line, *(Html(one) for one in lines)]
    return _frame(across, up, drawn, "learning rate", "loss", words, x_tick=lambda at: f"1e{at:g}".replace("-", "−"))


def _polyline(points: Sequence[Point], across: Axis, up: Axis, kind: str) -> Html:
    places = " ".join(f"{_x(across, a)},{_y(up, b)}" for a, b in points)
    return tag("polyline", points=places, class_=f"line {kind}") if points else Html("")


def _frame(
    across: Axis,
    up: Axis,
    marks: Sequence[Html],
    x_name: str,
    y_name: str,
    words: str,
    x_tick: Callable[[float], str] | None = None,
) -> Html:
    """Axes, grid and names around ``marks``; ``words`` tell a screen reader what the picture shows."""
    bottom = HEIGHT - BOTTOM
    upright = [
        tag("line", x1=_x(across, at), x2=_x(across, at), y1=TOP, y2=bottom, class_="grid")
        + tag("text", (x_tick or _tick)(at), x=_x(across, at), y=bottom + 16, text_anchor="middle", class_="tick")
        for at in across.ticks
    ]
    level = [
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=_y(up, at), y2=_y(up, at), class_="grid")
        + tag("text", _tick(at), x=LEFT - 7, y=_y(up, at) + 4, text_anchor="end", class_="tick")
        for at in up.ticks
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    names = [
        tag("text", x_name, x=middle, y=HEIGHT - 5, text_anchor="middle", class_="axis"),
        tag(
            "text",
            y_name,
            transform=f"translate(13 {(TOP + bottom) / 2}) rotate(-90)",
            text_anchor="middle",
            class_="axis",
        ),
    ]
    parts = join(Html(part) for part in (*upright, *level, *names, *marks))
    return tag("svg", parts, viewbox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=words, class_="plot")


def _x(scale: Axis, value: float) -> float:
    return round(LEFT + scale.share(value) * (WIDTH - LEFT - RIGHT), 1)


def _y(scale: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - scale.share(value) * (HEIGHT - TOP - BOTTOM), 1)


def _tick(value: float) -> str:
    return number(value).replace("-", "−")

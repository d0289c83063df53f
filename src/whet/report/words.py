"""How do we say a number, a duration, a metric or somebody else's text? The same way everywhere.

Text of users may hold anything: control characters that steer a terminal are replaced here, markup is the
business of ``markup.py`` (HTML) and ``card.py`` (Markdown).
"""

import math
import re
from datetime import datetime

from whet import catalog
from whet.evaluation.records import Comparison, Score
from whet.trackers.tracker import Account

SHARES = ("accuracy", "macro-f1", "micro-f1", "exact-match", "calibration-error", "precision", "recall", "f1")
NOTHING = "–"
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def clean(text: str) -> str:
    """``text`` without characters that no page or terminal can show; tabs and line feeds stay."""
    if text.isprintable():  # nearly every text, and much faster to ask than to replace
        return text
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def one_line(text: str, limit: int = 500) -> str:
    """``text`` on one line, cut with an ellipsis after ``limit`` characters; "(empty)" when nothing is left."""
    short = " ".join(clean(text).split())
    return (short[: limit - 1] + "…" if len(short) > limit else short) or "(empty)"


def metric_name(metric: str) -> str:
    return catalog.title("metric", metric)


def learner_name(learner: str) -> str:
    return "this model" if learner == "model" else catalog.title("learner", learner)


def number(value: float) -> str:
    """Four significant digits, thousands apart; a dash for what is not a number."""
    if not math.isfinite(value):
        return NOTHING
    if value == int(value) and abs(value) < 1e15:
        return count(int(value))
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def count(value: int) -> str:
    return f"{value:,}"


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}%" if math.isfinite(value) else NOTHING


def metric_value(metric: str, value: float) -> str:
    """A metric's value: shares in percent, small numbers with three decimals, so that columns line up."""
    if metric in SHARES:
        return percent(value)
    return f"{value:.3f}" if abs(value) < 10 else number(value)


def score_text(score: Score) -> str:
    return metric_value(score.metric, score.value)


def interval_text(score: Score) -> str:
    """'92.2 to 94.0': the bounds in the unit of ``score_text``."""
    return f"{metric_value(score.metric, score.low)} to {metric_value(score.metric, score.high)}".replace("% to", " to")


def points(value: float) -> str:
    """A signed difference in points: '+2.1', '−0.3'."""
    if not math.isfinite(value):
        return NOTHING
    shown = f"{value:+.1f}" if abs(value) < 1000 else f"{value:+,.0f}"
    return shown.replace("-", "−")


def gained(value: float, relative: bool) -> str:
    """A signed difference with its unit: '+2.1 points', '+3.4%' of the best baseline's error."""
    return f"{points(value)}{'%' if relative else ' points'}"


def point_unit(relative: bool) -> str:
    """What differences are counted in, for the head of a column."""
    return "%" if relative else "points"


def in_points(comparison: Comparison) -> tuple[float, float, float]:
    """(difference, low, high) of a comparison, counted in points, or in percent of the best baseline's error."""
    unit = comparison.point or math.nan
    return comparison.difference / unit, comparison.low / unit, comparison.high / unit


def duration(seconds: float | None) -> str:
    """'0.4 s', '42 s', '3 min 20 s', '2 h 5 min'."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(value: float | None) -> str:
    """Bytes in binary units: '118 MiB'."""
    if value is None or not math.isfinite(value):
        return NOTHING
    for unit in _UNITS:
        if abs(value) < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if abs(value) >= 10 or unit == "B" else f"{value:.1f} {unit}"


def short_count(value: int) -> str:
    """Parameters in a breath: '22.7 M'."""
    for limit, unit in ((10**9, "B"), (10**6, "M"), (10**4, "k")):
        if value >= limit:
            return f"{value / (1000 if unit == 'k' else limit):.1f} {unit}"
    return count(value)


def plural(amount: int, noun: str) -> str:
    """'1 row', '12 rows'."""
    return f"{count(amount)} {noun}" if amount == 1 else f"{count(amount)} {noun}s"


def joined(items: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return ", ".join(items[:-1]) + f" and {items[-1]}" if len(items) > 1 else "".join(items)


def day(created: str) -> str:
    """An ISO time to read: '3 May 2025, 14:02'; as it came when it is no ISO time."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{moment.day} {moment:%B %Y, %H:%M}"


def times(ratio: float) -> str:
    """A multiple to read: '1.4x', '20x', '1,300x'."""
    return f"{ratio:.1f}x" if ratio < 9.95 else f"{ratio:,.0f}x"


def account_words(account: Account, *, how: bool = False) -> str:
    """'0.41 Wh, 0.19 g CO2e (world average), estimated', with ``how`` they were had behind a semicolon."""
    words = ", ".join([figure.words for figure in account.figures] + ["estimated"] * account.estimated)
    return f"{words}; {account.how}" if how and account.how else words


def cost_of(seconds: float, forecast: float | None, taken: float | None = None) -> str:
    """'48 s (forecast 51 s)'; with what was forecast for the steps taken, where those are fewer."""
    if forecast is None:
        return duration(seconds)
    fewer = taken is not None and taken < 0.95 * forecast
    return f"{duration(seconds)} (forecast {duration(forecast)}{f', {duration(taken)} for the steps taken' * fewer})"

"""Is it better? One word and one sentence, in plain English, that never flatters."""

import math
from collections.abc import Sequence

from whet import catalog
from whet.evaluation.compare import rows_needed
from whet.evaluation.intervals import Interval
from whet.evaluation.metric import Metric
from whet.evaluation.records import Comparison, Verdict


def verdict_of(
    comparisons: Sequence[Comparison],
    metric: Metric,
    rows: int,
    dropped: Sequence[str] = (),
    *,
    unit: str = "row",
    never: str = "",
) -> Verdict:
    """*Better* only if better than every baseline; else *not better* if that is known of any; else *cannot tell*.

    Args:
        comparisons: The model against each baseline, by the same metric.
        rows: Number of test rows, or of groups of them; unit: which of the two.
        dropped: Names of baselines whose answers are the model's own.
        never: Why no number of such rows can settle it; "" where more of them can.
    """
    if not comparisons:
        return _nothing_to_compare(metric, dropped)
    worse = [found for found in comparisons if found.answer == "not better"]
    unknown = [found for found in comparisons if found.answer == "cannot tell"]
    if worse:
        return _not_better(min(worse, key=lambda found: found.high), metric)
    if unknown:
        return _cannot_tell(min(unknown, key=lambda found: found.difference), metric, rows, unit, never)
    hardest = min(comparisons, key=lambda found: found.difference)
    best = baseline_title(hardest.baseline)
    gap = _gap(hardest, metric, "that of the best baseline", "the best baseline")
    sentence = f"Better: {gap}, {best} ({_interval(hardest, metric)})."
    return Verdict("better", metric.name, None, sentence, None)


def kept_verdict(
    comparisons: Sequence[Comparison], metric: Metric, rows: int, name: str, *, unit: str = "row"
) -> Verdict:
    """Has anything been lost against one baseline? *Better*, *forgets* (surely worse), *not worse* (a loss of one point
    is ruled out), else *cannot tell*.

    Args:
        name: The baseline, such as the model that a run went on from; not among ``comparisons``, it answers alike.
    """
    found = next((one for one in comparisons if one.baseline == name), None)
    title = baseline_title(name)
    if found is None:
        return Verdict(
            "not worse", metric.name, name, f"Not worse than {title}: the model gives the same answers.", None
        )
    gap = f"{_gap(found, metric, '', 'it')} ({_interval(found, metric)})"
    if found.low > 0:
        return Verdict("better", metric.name, None, f"Better than {title}: {gap}.", None)
    if found.high < 0:
        return Verdict("forgets", metric.name, name, f"Forgets: against {title}, {gap}.", None)
    if found.low > -found.point:
        why = f"a loss of {_one_point(metric)} is ruled out"
        return Verdict("not worse", metric.name, name, f"Not worse than {title}: {gap}, so {why}.", None)
    needed = rows_needed(rows, Interval(found.low, found.high), found.point)
    start = f"Cannot tell whether it forgets, against {title}: {gap}."
    if needed is None:
        return Verdict("cannot tell", metric.name, name, f"{start} {_too_few(rows, unit)}", None)
    end = f"About {_rounded(needed):,} test {unit}s, where there are {rows:,} now, would show a loss of "
    return Verdict("cannot tell", metric.name, name, f"{start} {end}{_one_point(metric)}.", needed)


def _nothing_to_compare(metric: Metric, dropped: Sequence[str]) -> Verdict:
    if not dropped:
        return Verdict("cannot tell", metric.name, None, "Cannot tell: there is no baseline to compare with.", None)
    same = " and ".join(map(baseline_title, dropped))
    sentence = f"Not better than {same}: the model gives the same answers."
    return Verdict("not better", metric.name, dropped[0], sentence, None)


def _not_better(found: Comparison, metric: Metric) -> Verdict:
    why = "it is worse, or at best equal" if found.high <= 0 else f"a gain of {_one_point(metric)} is ruled out"
    gap = f"{_gap(found, metric, '', 'it')} ({_interval(found, metric)})"
    sentence = f"Not better than {baseline_title(found.baseline)}: {gap}, so {why} on data like these."
    return Verdict("not better", metric.name, found.baseline, sentence, None)


def _cannot_tell(found: Comparison, metric: Metric, rows: int, unit: str, never: str) -> Verdict:
    gap = f"{_gap(found, metric, '', 'it')} ({_interval(found, metric)})"
    start = f"Cannot tell whether it is better than {baseline_title(found.baseline)}: {gap}."
    if never:
        return Verdict("cannot tell", metric.name, found.baseline, f"{start} {never}", None)
    if found.rows_needed is None:
        end = _too_few(rows, unit)
    elif found.rows_needed > rows:
        end = (
            f"About {_rounded(found.rows_needed):,} test {unit}s, where there are {rows:,} now, would show a "
            f"difference of {_one_point(metric)}."
        )
    else:
        end = f"These {rows:,} test {unit}s would show a difference of {_one_point(metric)}; this one is smaller."
    return Verdict("cannot tell", metric.name, found.baseline, f"{start} {end}", found.rows_needed)


def _too_few(rows: int, unit: str) -> str:
    return f"{counted(rows, f'test {unit} is', f'test {unit}s are')} too few to say how many would be enough."


def _gap(found: Comparison, metric: Metric, own: str, it: str) -> str:
    """How far apart: '2.1 points of accuracy above it', 'RMSE is 3.0% lower'.

    Args:
        own: What a relative metric is compared with, or nothing; it: how the baseline is called.
    """
    better, name = found.difference >= 0, catalog.title("metric", metric.name)
    if found.difference == 0:
        return f"the {name} is the same"
    if metric.relative and found.point > 0:
        word = "lower" if better != metric.higher_is_better else "higher"
        return f"{name} is {_size(abs(found.difference), found, metric)} {word}" + (f" than {own}" if own else "")
    if metric.relative:
        return f"{name} is {abs(found.difference):.3g} away"
    word = "above" if better == metric.higher_is_better else "below"
    return f"{_size(abs(found.difference), found, metric)} of {name} {word} {it}"


def _interval(found: Comparison, metric: Metric) -> str:
    """'95% interval 0.9 to 3.3'; a negative end is a loss, and the sentence says so."""
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return "what the gain is on other rows is not known"
    low, high = (_signed(end, found, metric) for end in (found.low, found.high))
    return f"95% interval of the gain {low} to {high}"


def _signed(value: float, found: Comparison, metric: Metric) -> str:
    points = value / found.point if found.point > 0 else value
    text = f"{points:.1f}"
    if text in ("-0.0", "0.0") and points != 0:
        text = f"{points:.2g}"  # an end close to zero keeps its side
    return text.replace("-", "−") + ("%" if metric.relative and found.point > 0 else "")


def _size(value: float, found: Comparison, metric: Metric) -> str:
    points = value / found.point
    text = f"{points:.1f}"
    if metric.relative:
        return f"{text}%"
    return f"{text} point" if text == "1.0" else f"{text} points"


def _one_point(metric: Metric) -> str:
    return "1% of the best baseline's error" if metric.relative else "one point"


def baseline_title(name: str) -> str:
    """How a baseline is written in a sentence."""
    return catalog.title("learner", name)


def counted(count: int, one: str, many: str = "") -> str:
    """'1 row', '2,000 rows'."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _rounded(count: int) -> int:
    """Two leading digits, rounded up: nobody knows the third."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return math.ceil(count / unit) * unit

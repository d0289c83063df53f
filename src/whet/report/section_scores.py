"""How good is it, and against what? Intervals, differences and the two tables behind them, for one test set."""

import math

from whet.evaluation.records import Comparison, Judgement, Score
from whet.report.markup import Html, header, join, number_cell, table, tag
from whet.report.story import Story
from whet.report.svg import Interval, interval_plot, near_axis
from whet.report.words import (
    SHARES,
    count,
    in_points,
    interval_text,
    learner_name,
    metric_name,
    number,
    percent,
    point_unit,
    points,
    score_text,
)


def scores(story: Story, judgement: Judgement) -> Html:
    """Forest plot, difference plot, scores table, comparisons table."""
    parts = [forest(judgement), differences(judgement), scores_table(judgement), comparisons_table(judgement)]
    return join(part for part in parts if part)


def forest(judgement: Judgement) -> Html:
    """The chosen metric of the model and every baseline, each with its interval."""
    chosen = {learner: found[0] for learner, found in judgement.scores.items() if found}
    if "model" not in chosen:
        return Html("")
    center, factor = chosen["model"].value, 100 if judgement.metric in SHARES else 1
    edges = [(score.low, score.high) for learner, score in chosen.items() if learner != "model"]
    reach = max(chosen["model"].high - chosen["model"].low, 1e-9)
    edges = [(low * factor, high * factor) for low, high in edges]
    bounds = (0.0, 100.0) if factor == 100 else (-math.inf, math.inf)
    scale = near_axis(center * factor, edges, reach * factor, bounds)
    rows = [_interval(learner, score, factor) for learner, score in chosen.items()]
    better = "more" if chosen["model"].higher_is_better else "less"
    caption = f"{metric_name(judgement.metric)} with 95% intervals; {better} is better"
    return interval_plot(caption, rows, scale, "%" if factor == 100 else metric_name(judgement.metric))


def _interval(learner: str, score: Score, factor: int) -> Interval:
    low, value, high = (factor * one for one in (score.low, score.value, score.high))
    words = f"{score_text(score)} ({interval_text(score)})"
    return Interval(learner_name(learner), value, low, high, words, "model" if learner == "model" else "")


def differences(judgement: Judgement) -> Html:
    """Model minus each baseline on the same rows, with zero and one point marked."""
    if not judgement.comparisons:
        return Html("")
    found = [(one, in_points(one)) for one in judgement.comparisons]
    scale = near_axis(0.0, [(low, high) for _, (_, low, high) in found], 1.5)
    rows = [
        Interval(f"minus {learner_name(one.baseline)}", middle, low, high, _points_words(one), "difference")
        for one, (middle, low, high) in found
    ]
    relative = judgement.comparisons[0].relative
    metric = metric_name(judgement.metric)
    of, one = (f"% of the best baseline's {metric}", "1%") if relative else (f"points of {metric}", "one point")
    caption = f"How much better, in {of}: full line zero, dashed line {one}"
    return interval_plot(caption, rows, scale, point_unit(relative), marks=(0.0, 1.0))


def _points_words(comparison: Comparison) -> str:
    middle, low, high = in_points(comparison)
    return f"{points(middle)} ({points(low)} to {points(high)})"


def scores_table(judgement: Judgement) -> Html:
    """Every score of every learner."""
    metrics = list(dict.fromkeys(score.metric for found in judgement.scores.values() for score in found))
    if not metrics:
        return Html("")
    rows = [_score_row(learner, found, metrics) for learner, found in judgement.scores.items()]
    head = [header("learner"), *(header(_headed(judgement, metric), "num") for metric in metrics)]
    return table("Scores, with 95% intervals below", head, rows, "scores")


def _headed(judgement: Judgement, metric: str) -> str:
    every = (score for found in judgement.scores.values() for score in found if score.metric == metric)
    return f"{metric_name(metric)} {'↑' if next(every).higher_is_better else '↓'}"


def _score_row(learner: str, found: tuple[Score, ...], metrics: list[str]) -> Html:
    by_metric = {score.metric: score for score in found}
    cells = [_score_cell(by_metric.get(metric)) for metric in metrics]
    kind = "ours" if learner == "model" else None
    return tag("tr", tag("th", learner_name(learner), scope="row"), *cells, class_=kind)


def _score_cell(score: Score | None) -> Html:
    if score is None:
        return number_cell("–")
    return number_cell(score_text(score), score.value, interval_text(score))


def comparisons_table(judgement: Judgement) -> Html:
    """The paired test against each baseline: rows won and lost, p, answer, rows that would settle it."""
    if not judgement.comparisons:
        return Html("")
    counted = any(one.mcnemar_p is not None for one in judgement.comparisons)
    relative = judgement.comparisons[0].relative
    head = [header("against"), header(f"difference, {point_unit(relative)}", "num")]
    head += [header("only model right", "num"), header("only baseline right", "num")] if counted else []
    head += [header("McNemar\N{NO-BREAK SPACE}p", "num")] if counted else []
    head += [header("answer"), header(f"rows to settle {'1%' if relative else 'one point'}", "num")]
    rows = [_comparison_row(one, counted) for one in judgement.comparisons]
    return table("Paired comparisons on the same test rows", head, rows, "compare")


def _comparison_row(one: Comparison, counted: bool) -> Html:
    middle, low, high = in_points(one)
    cells = [number_cell(points(middle), middle, f"{points(low)} to {points(high)}")]
    if counted:
        cells += [number_cell(count(won), won) for won in (one.model_only_right, one.baseline_only_right)]
        cells.append(number_cell(_chance(one.mcnemar_p), one.mcnemar_p))
    needed = "–" if one.rows_needed is None else count(one.rows_needed)
    cells += [tag("td", one.answer), number_cell(needed, one.rows_needed)]
    return tag("tr", tag("th", learner_name(one.baseline), scope="row"), *cells)


def _chance(p: float | None) -> str:
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else number(round(p, 3))


def share_cell(score: Score) -> Html:
    """A share with its interval below, for the tables of classes."""
    return number_cell(percent(score.value), score.value, interval_text(score))

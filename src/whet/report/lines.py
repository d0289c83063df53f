"""What do we print? Lines made of (text, style) spans, for a coloured terminal and for a plain file alike.

No rich here: ``plain`` turns lines into a string, ``terminal.py`` into colours. Texts of users are put on one line
and freed from control characters before they get here, so that no label can steer a terminal.
"""

import math
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from whet.data.rows import Finding
from whet.evaluation.records import Comparison, Judgement, Score
from whet.report.section_making import setting
from whet.report.story import Cost, DataFacts, Rung, Story
from whet.report.svg import near_axis
from whet.report.words import (
    NOTHING,
    count,
    duration,
    gained,
    in_points,
    interval_text,
    joined,
    learner_name,
    metric_name,
    metric_value,
    number,
    one_line,
    plural,
    points,
    score_text,
    short_count,
    size,
    times,
)

Span = tuple[str, str]
Line = list[Span]

ICONS = {
    "better": ("✓", "bold green"),
    "not worse": ("✓", "bold green"),
    "not better": ("=", "bold red"),
    "forgets": ("✗", "bold red"),
    "cannot tell": ("?", "bold yellow"),
}
_LEVELS = {"error": ("✗", "bold red"), "warning": ("!", "bold yellow"), "info": ("·", "dim")}
_ASCII = str.maketrans({"✓": "+", "✗": "x", "·": "-", "–": "-", "−": "-", "…": "...", "→": "->", "²": "2", "×": "x",
                        "├": "|", "┤": "|", "─": "-", "●": "o", "◂": "<", "▸": ">", "│": "|"})  # fmt: skip
_WIDEST_PLOT, _NARROWEST_PLOT = 30, 12


def plain(lines: Sequence[Line]) -> str:
    """Lines without colours, each ended by a line feed."""
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)


def fit_encoding(text: str, encoding: str) -> str:
    """``text`` with our own signs replaced where ``encoding`` lacks them; what else it lacks becomes '?'."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    return text


def data_lines(data: DataFacts) -> list[Line]:
    """One line: where the rows come from, how many there are, from what to what."""
    rows = ", ".join(f"{count(amount)} {one_line(name, 40)}" for name, amount in data.rows.items())
    inputs = ", ".join(one_line(name, 40) for name in data.columns.inputs)
    targets = joined([one_line(name, 40) for name in data.columns.target[:6]])
    classes = plural(len(data.class_counts), "class").replace("classs", "classes") if data.class_counts else ""
    parts = [rows, " of ".join(part for part in (data.task, classes) if part)]
    tail = " · ".join(part for part in (*parts, f"{inputs} → {targets}") if part)
    return [[("  ", ""), (one_line(data.source, 80), "bold"), (f"  {tail}", "")]]


def finding_lines(findings: Sequence[Finding], width: int = 80, level: str = "info") -> list[Line]:
    """Findings from ``level`` up, the gravest first: what, where, what to do."""
    order = list(_LEVELS)
    shown = [one for one in findings if order.index(one.level) <= order.index(level)]
    lines = []
    for one in sorted(shown, key=lambda finding: order.index(finding.level)):
        icon, style = _LEVELS[one.level]
        first, *rest = wrapped(one.message, width - 4)
        lines.append([("  ", ""), (icon, style), (f" {first}", "")])
        lines += [[(f"    {text}", "")] for text in rest]
        below = [one_line(one.where), f"try: {one.fix}" if one.fix else ""]
        lines += [[(f"    {text}", "dim")] for part in below if part for text in wrapped(part, width - 4)]
    return lines


def plan_lines(plan: Mapping[str, Any], width: int = 80) -> list[Line]:
    """One paragraph for each part of the plan. What is None or empty is left out, and so are rungs."""
    parts = {name: part for name, part in plan.items() if isinstance(part, Mapping)}
    loose = {name: part for name, part in plan.items() if not isinstance(part, Mapping)}
    told = {name: _settings(part) for name, part in {**parts, "run": loose}.items()}
    kept = {_spaced(name): words for name, words in told.items() if words}
    return paragraph_lines(kept, width)


def paragraph_lines(kept: Mapping[str, str], width: int = 80) -> list[Line]:
    """Named paragraphs, wrapped beside their names."""
    left = max((len(name) for name in kept), default=0) + 4
    lines: list[Line] = []
    for name, words in kept.items():
        first, *rest = wrapped(words, max(20, width - left))
        lines.append([(f"  {name}".ljust(left), "bold" if name == "forecast" else "cyan"), (first, "")])
        lines += [[(" " * left + text, "")] for text in rest]
    return lines


def _settings(part: Mapping[str, Any]) -> str:
    flat = {name: value for name, value in part.items() if value is not None and value != [] and value != {}}
    flat = {name: value for name, value in flat.items() if not (isinstance(value, list) and isinstance(value[0], dict))}
    return " · ".join(f"{_spaced(name)} {_value(value)}" for name, value in flat.items())


def _value(value: object) -> str:
    return f"({_settings(value)})" if isinstance(value, Mapping) else one_line(setting(value), 120)


def _spaced(name: str) -> str:
    return one_line(str(name).replace("_", " "), 40)


def cost_words(cost: Cost) -> str:
    """'51 s · 1.2 GiB memory · 93 MiB disk'; what is not known is left out."""
    memory = f"{size(cost.memory_bytes)} memory" if cost.memory_bytes is not None else ""
    disk = f"{size(cost.disk_bytes)} disk" if cost.disk_bytes is not None else ""
    least = f"{duration(cost.least_seconds)} to " if cost.least_seconds is not None else ""
    return (
        " · ".join(part for part in (least + duration(cost.seconds), memory, disk) if part and part != NOTHING)
        or NOTHING
    )


def ladder_lines(story: Story, width: int = 80) -> list[Line]:
    """Each rung of the automatic ladder: score, gain with its bounds, cost and whether it was kept; nothing for one."""
    tried = [rung for rung in story.rungs if rung.score is not None]
    if len(tried) < 2:
        return []
    metric = story.judgements[0].metric if story.judgements else ""
    title = f"{metric_name(metric) or 'score'} on {plural(tried[0].rows, 'row')} kept for choosing"
    about = "gain over the best before, lower 80% to upper 95% bound; × the first rung's time"
    lines: list[Line] = [[("  the ladder  ", "bold"), (title, "")], [(f"    {about}", "dim")]]
    left = max(display_width(rung.name) for rung in story.rungs)
    for rung in story.rungs:
        name = f"    {padded(rung.name, left)}  "
        if rung.score is None:
            words = wrapped(rung.why, width - left - 6)
            lines += [[(name if not at else " " * (left + 6), "dim"), (text, "dim")] for at, text in enumerate(words)]
        else:
            lines.append([(name, ""), (_rung_words(rung, metric), "green" if rung is _chosen(story) else "")])
    return [*lines, []]


def _rung_words(rung: Rung, metric: str) -> str:
    score = metric_value(metric, rung.score if rung.score is not None else math.nan)
    gain, bounds = "", ""
    if rung.gain is not None and rung.gain_low is not None and rung.gain_high is not None:
        gain, bounds = gained(rung.gain, rung.relative), f"({points(rung.gain_low)} to {points(rung.gain_high)})"
    cost = f"{times(rung.cost)}" if rung.cost is not None else ""
    kept = "first rung" if rung.gain is None else "kept" if rung.kept else "not kept"
    return f"{score:>7}  {gain:>12}  {bounds:<17}  {duration(rung.seconds):>12}  {cost:>6}  {kept}"


def _chosen(story: Story) -> Rung | None:
    """The last rung that was kept, which is the model."""
    return next((rung for rung in reversed(story.rungs) if rung.kept), None)


def verdict_lines(story: Story, width: int = 80) -> list[Line]:
    """Scores with intervals beside the baselines, then the answer, for each test set."""
    lines: list[Line] = []
    for judgement in story.judgements:
        lines += [*score_lines(judgement, width), [], *_answer_lines(judgement, width), []]
    return lines or [[("  ? ", "bold yellow"), ("Not judged: this run had no test rows.", "")], []]


def score_lines(judgement: Judgement, width: int = 80) -> list[Line]:
    """The chosen metric of every learner with its interval, as numbers and as a picture where there is room."""
    chosen = {learner: found[0] for learner, found in judgement.scores.items() if found}
    title = f"  {metric_name(judgement.metric)} on {one_line(judgement.test, 60)}"
    differences = {one.baseline: one for one in judgement.comparisons}
    relative = any(one.relative for one in judgement.comparisons)
    base = f"; gained: % of the best baseline's {metric_name(judgement.metric)}" if relative else ""
    lines: list[Line] = [[(title, "bold"), (f"  {plural(judgement.rows, 'row')}, 95% intervals{base}", "dim")]]
    left = max((display_width(learner_name(name)) for name in chosen), default=0)
    room = min(_WIDEST_PLOT, width - left - 47)
    plot = _plots(chosen, room) if room >= _NARROWEST_PLOT else {}
    for learner, score in chosen.items():
        ours = learner == "model"
        name = padded(learner_name(learner), left)
        words = f"  {score_text(score):>7}  {interval_text(score):<16}"
        picture, gained = plot.get(learner, ""), _gained(differences.get(learner))
        lines.append(
            [
                (f"    {name}{words}", "bold" if ours else ""),
                (picture, "green" if ours else "dim"),
                (gained, "dim"),
            ]
        )
    return lines


def _gained(comparison: Comparison | None) -> str:
    return "" if comparison is None else f"  {gained(in_points(comparison)[0], comparison.relative):>13}"


def _plots(chosen: Mapping[str, Score], room: int) -> dict[str, str]:
    """Each interval as signs on one common axis."""
    center = chosen["model"].value if "model" in chosen else next(iter(chosen.values())).value
    edges = [(score.low, score.high) for score in chosen.values()]
    scale = near_axis(center, edges, max(edges[0][1] - edges[0][0], 1e-9))
    places = {
        name: [round(scale.share(one) * (room - 1)) for one in (score.low, score.value, score.high)]
        for name, score in chosen.items()
        if score.value == score.value
    }
    return {name: interval_signs(places[name], room, scale.outside(chosen[name].value)) for name in places}


def interval_signs(places: Sequence[int], room: int, outside: int = 0) -> str:
    """An interval and its value as signs on ``room`` cells; ``outside`` is where the value lies beyond their edge."""
    low, at, high = places
    signs = [" "] * room
    if outside:
        signs[0 if outside < 0 else -1] = "◂" if outside < 0 else "▸"
        return "".join(signs)
    signs[low : high + 1] = "─" * (high - low + 1)
    signs[low], signs[high], signs[at] = "├", "┤", "●"
    return "".join(signs)


def _answer_lines(judgement: Judgement, width: int) -> list[Line]:
    icon, style = ICONS[judgement.verdict.answer]
    first, *rest = wrapped(judgement.verdict.sentence, width - 4)
    lines: list[Line] = [[(f"  {icon} ", style), (first, style)], *([(f"    {text}", style)] for text in rest)]
    return [*lines, *note_lines(judgement, width)]


def note_lines(judgement: Judgement, width: int = 80) -> list[Line]:
    """What a reader must know before believing the numbers."""
    notes = [text for note in (*judgement.dropped, *judgement.notes) for text in wrapped(note, width - 4)]
    return [[(f"    {text}", "dim")] for text in notes]


def table_lines(records: Sequence[Mapping[str, Any]], width: int = 80) -> list[Line]:
    """Records as a table. Keys head the columns and say the unit: ``*seconds``, ``*bytes``, ``parameters``.

    Numbers stand right. Where the table is too wide, its widest column is cut with an ellipsis.
    """
    keys = list(dict.fromkeys(key for record in records for key in record))
    cells = [[_cell(key, record.get(key)) for key in keys] for record in records]
    heads = [_spaced(key.removesuffix("_seconds").removesuffix("_bytes")) for key in keys]
    right = [any(_is_number(record.get(key)) for record in records) for key in keys]
    widths = [max(map(display_width, column)) for column in zip(heads, *cells, strict=True)]
    while sum(widths) + 2 * len(widths) > width and max(widths) > 12:
        widths[widths.index(max(widths))] -= 1
    shape = list(zip(widths, right, strict=True))
    return [_table_line(heads, shape, "dim"), *(_table_line(line, shape, "") for line in cells)]


def _table_line(cells: Sequence[str], shape: Sequence[tuple[int, bool]], style: str) -> Line:
    texts = [padded(text, wide, right) for text, (wide, right) in zip(cells, shape, strict=True)]
    return [(f"  {text}", style or ("bold" if not index else "")) for index, text in enumerate(texts)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(key: str, value: object) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return one_line(setting(value), 200)
    if key.endswith("seconds"):
        return duration(value)
    if key.endswith("bytes"):
        return size(value)
    return short_count(int(value)) if key.endswith("parameters") else number(value)


def wrapped(text: str, width: int) -> list[str]:
    """``text`` on lines of at most ``width`` signs, at least one line."""
    return textwrap.wrap(one_line(text, 2000), max(width, 20), break_on_hyphens=False) or [""]


def display_width(text: str) -> int:
    """Terminal cells that ``text`` takes: wide signs take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def padded(text: str, width: int, right: bool = False) -> str:
    """``text`` in exactly ``width`` cells, cut with an ellipsis when it is longer."""
    while display_width(text) > width and text:
        text = f"{text.removesuffix('…')[:-1]}…" if len(text) > 1 else ""
    room = " " * (width - display_width(text))
    return room + text if right else text + room

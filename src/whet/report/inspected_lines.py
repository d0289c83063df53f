"""How is an inspected model shown in the terminal? Its parts, cuts, methods and block scores as lines."""

import math
from collections.abc import Sequence
from typing import Any

from whet.report.inspected import BlockProbe, Crossing, Inspection, MethodFacts, Part, Weights
from whet.report.lines import Line, display_width, interval_signs, padded, paragraph_lines, table_lines, wrapped
from whet.report.svg import axis
from whet.report.words import (
    interval_text,
    joined,
    metric_name,
    one_line,
    percent,
    plural,
    score_text,
    short_count,
    size,
)

CANNOT = (
    "A score says what a linear head reads behind a block as it is. It cannot say what steps would gain: blocks above "
    "the cut may learn what no probe shows, and so may those below. `--method auto` tries that on your rows."
)
_WIDEST, _NARROWEST = 40, 12


def inspection_lines(found: Inspection, width: int = 80) -> list[Line]:
    """Everything about a model, from its provenance to what its blocks tell."""
    lines: list[Line] = [
        [(f"  {one_line(found.weights.name, 80)}", "bold")],
        *paragraph_lines(weight_words(found.weights, found.parameters), width),
        *note_lines(found.notes, width),
        [],
        heading("Parts, from input to output", f"{short_count(found.parameters)} parameters"),
        *table_lines([part_record(part, found) for part in found.parts], width),
        [],
        heading("Cuts", "what lies below can stay frozen, run once and be replayed"),
        *table_lines(
            [
                {
                    "cut": one.name,
                    "crosses": crossing_words(one),
                    "below_parameters": one.parameters_below,
                    "share below": percent(one.parameters_below / max(1, found.parameters)),
                }
                for one in found.cuts
            ],
            width,
        ),
        [],
        heading("Methods", f"what each would train at its defaults, with a head of {plural(found.outputs, 'output')}"),
        *table_lines([method_record(one) for one in found.methods if one.problem is None], width),
        *problem_lines([one for one in found.methods if one.problem is not None], width),
    ]
    return lines if found.probe is None else [*lines, [], *probe_lines(found.probe, width)]


def heading(name: str, about: str) -> Line:
    """A section's first line."""
    return [(f"  {name}", "bold"), (f"  {about}", "dim")]


def note_lines(notes: Sequence[str], width: int) -> list[Line]:
    """Sentences that a reader must know."""
    return [[(f"  {text}", "dim")] for note in notes for text in wrapped(note, width - 2)]


def weight_words(weights: Weights, parameters: int) -> dict[str, str]:
    """Provenance by name."""
    stored = joined([f"{short_count(amount)} {name}" for name, amount in weights.stored.items()])
    whence = [weights.origin, weights.revision or "", weights.licence or "licence not stated"]
    kind = [weights.architecture or "architecture not stated", f"loaded as {weights.family}, in float32"]
    behind = f"{weights.pooling}: " if weights.pooling else ""
    return {
        "whence": " · ".join(part for part in whence if part),
        "folder": weights.folder,
        "weights": f"{size(weights.bytes)} on disk, {stored} · {size(4 * parameters)} in memory",
        "sha256": weights.sha256,
        "kind": " · ".join(kind),
        "features": f"{behind}{plural(weights.features, 'number')}",
    }


def crossing_words(one: Crossing) -> str | None:
    """What crosses a cut."""
    if one.width is None:
        return None
    return f"{plural(one.width, 'number')} {'a token' if one.per_token else 'an example'}"


def part_record(part: Part, found: Inspection) -> dict[str, Any]:
    """One row of the table of parts."""
    kinds = {"stem": "below every cut", "block": "block", "tail": "behind the blocks", "head": "new head"}
    unused = f"{short_count(part.unused)} do not reach the features" if part.unused else ""
    return {
        "part": part.name,
        "parameters": part.parameters,
        "share": percent(part.parameters / max(1, found.parameters)),
        "what": ", ".join(word for word in (kinds[part.kind], unused) if word),
    }


def method_record(one: MethodFacts) -> dict[str, Any]:
    """One row of the table of methods."""
    replay = "" if one.epochs else "features once"
    return {
        "method": one.name,
        "trained_parameters": one.parameters,
        "share": percent(one.share, 1 if one.share >= 0.001 else 3),
        "blocks": f"{one.moving} of {one.blocks}" if one.blocks else None,
        "epochs": one.epochs or None,
        "replay": f"at most {one.replay_gain:.1f}x" if one.replay_gain else replay or "no gain",
    }


def problem_lines(methods: Sequence[MethodFacts], width: int) -> list[Line]:
    """Methods that cannot work here, each with the reason."""
    lines: list[Line] = []
    for one in methods:
        assert one.problem is not None
        first, *rest = wrapped(f"{one.name} cannot work here: {one.problem.what}", width - 4)
        lines += [[("  ✗ ", "bold red"), (first, "")], *([(f"    {text}", "")] for text in rest)]
        lines += [[(f"    {text}", "dim")] for text in wrapped(f"try: {one.problem.fix}", width - 4)]
    return lines


def probe_lines(probe: BlockProbe, width: int = 80) -> list[Line]:
    """Scores of all blocks on one axis, the cut that they suggest, and what they do not say."""
    named = [("no features", probe.without, ""), *((one.name, one.score, "") for one in probe.blocks)]
    chosen = None if probe.suggestion is None else probe.suggestion.depth
    marks = ["", *("cut" if one.depth == chosen else "" for one in probe.blocks)]
    left = max(display_width(name) for name, *_ in named)
    room = min(_WIDEST, width - left - 40)
    edges = [end for _, one, _ in named for end in (one.low, one.high) if math.isfinite(end)]
    scale = axis(edges)
    about = f"{plural(probe.rows, 'row')}, {probe.folds} folds, 95% intervals"
    lines: list[Line] = [heading(f"{metric_name(probe.metric)} that a solved head reads behind every block", about)]
    for (name, one, _), mark in zip(named, marks, strict=True):
        picture = ""
        if room >= _NARROWEST and all(map(math.isfinite, (one.low, one.value, one.high))):
            picture = interval_signs(
                [round(scale.share(end) * (room - 1)) for end in (one.low, one.value, one.high)], room
            )
        style = "bold green" if mark else ""
        words = f"    {padded(name, left)}  {score_text(one):>7}  {interval_text(one):<16}"
        lines.append([(words, style), (picture, "green" if mark else "dim"), (f"  ← {mark}" if mark else "", style)])
    return [*lines, [], *suggestion_lines(probe, width)]


def suggestion_lines(probe: BlockProbe, width: int) -> list[Line]:
    """The cut with its reason and how to try it, then what scores cannot say."""
    lines: list[Line] = []
    if probe.suggestion is not None:
        first, *rest = wrapped(probe.suggestion.sentence, width - 4)
        lines += [[("  → ", "bold green"), (first, "bold")], *([(f"    {text}", "bold")] for text in rest)]
        if probe.suggestion.options:
            lines.append([("    try: ", "dim"), (f"whet finetune ... {' '.join(probe.suggestion.options)}", "cyan")])
    lines += [[(f"    {text}", "dim")] for note in (*probe.notes, CANNOT) for text in wrapped(note, width - 4)]
    return lines

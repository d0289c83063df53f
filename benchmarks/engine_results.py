"""The engine's sections of RESULTS.md, from its notes."""

from collections.abc import Callable
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from cell import METHODS
from notes import Note, Notes
from results import HEAD, claims_head, placed, row, rule, spread, verdict

SECTIONS = ("speed", "replay", "accuracy", "forecast")
NAMES = {
    "short-whet": "whet full, native head",
    "short-default": "Trainer at its defaults (batch 8, float32)",
    "short-float32": "Trainer, batch 32, float32",
    "short-bf16": "Trainer, batch 32, bf16, grouped lengths",
    "long-whet": "whet full, native head",
    "long-float32": "Trainer, batch 32, float32",
    "long-bf16": "Trainer, batch 32, bf16, grouped lengths",
    "lora-whet": "whet LoRA, native head",
    "lora-float32": "Trainer + peft, batch 32, float32",
    "lora-bf16": "Trainer + peft, batch 32, bf16, grouped lengths",
}
TABLES = {
    "short": ("sst2", {"short-default": (5.0, None), "short-float32": (5.0, None), "short-bf16": (1.5, 2.0)}),
    "long": ("movie_reviews_long, cut at 256 tokens", {"long-float32": (3.5, None), "long-bf16": (2.0, None)}),
    "lora": ("LoRA of rank 16 on every linear layer, sst2", {"lora-float32": (1.5, None), "lora-bf16": (1.5, None)}),
}
REPLAYED, APART = 0.85, 0.3
"""Share of replay's bound at least; points that scores with and without it may differ by, in the mean over seeds."""
REGRET, MOST_REGRET = 1.0, 2.0
FORECASTS = (("time", "seconds", "forecast", 0.2), ("memory", "memory", "memory_forecast", 0.15))
"""Of what, what a run took, what was forecast, and the median error at most."""
QUIET = 0.05
"""Share of the processor that others may take of a cell whose times count."""
SINGLES = tuple(name for name in METHODS if name != "auto")


def write(path: Path, notes: Notes, cells: Notes) -> None:
    """Every section of which there are notes; the others stay as they are.

    Args:
        notes: Of the timed parts; cells: of the accuracy table.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else HEAD
    renderers: dict[str, Callable[[], str | None]] = {
        "speed": lambda: speed(notes),
        "replay": lambda: replay(notes),
        "accuracy": lambda: accuracy(cells),
        "forecast": lambda: forecast(cells),
    }
    for name in SECTIONS:
        found = renderers[name]()
        if found is not None:
            text = placed(text, f"engine/{name}", found, [f"engine/{one}" for one in SECTIONS])
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def speed(notes: Notes) -> str | None:
    """Examples a second, beside the Trainer."""
    lines = ["## Engine: training speed", "", told(notes), ""]
    shown = False
    for group, (title, bounds) in TABLES.items():
        ours = notes.of(f"{group}-whet")
        if not ours:
            continue
        shown = True
        lines += [f"### {title}", "", "| | batch | examples/s | peak MiB | runs |", *rule(5)]
        for part in (f"{group}-whet", *bounds):
            found = notes.of(part)
            if found:
                peaks = spread([note.usage["peak_bytes"] / 2**20 for note in found], 0)
                lines.append(row(NAMES[part], found[0].detail["batch"], spread(rates(found), 0), peaks, len(found)))
        absent = [NAMES[part] for part in bounds if not notes.of(part)]
        if absent:
            lines += ["", f"Not measured: {'; '.join(absent)} (bf16 only where the processor computes in it)."]
        lines += ["", *claims_head()]
        for part, (bound, aim) in bounds.items():
            if notes.of(part):
                ratio = median(rates(ours)) / median(rates(notes.of(part)))
                wish = f" (aim {aim:g}: {verdict(ratio >= aim)})" if aim else ""
                asked = f"at least {bound:g} times{wish}"
                lines.append(row(f"whet / {NAMES[part]}", f"{ratio:.2f} times", asked, verdict(ratio >= bound)))
        lines.append("")
    lines.append(
        "Whole processes that alternate; the first five steps left out. whet over one epoch at its defaults, the "
        "Trainer over 150 steps (37 on the long texts), its data loading and its own work included."
    )
    return "\n".join(lines) if shown else None


def told(notes: Notes) -> str:
    """When, and how quiet it was."""
    timed = [note for part in NAMES for note in notes.of(part)]
    return measured_at(timed) if timed else ""


def measured_at(noted: list[Note]) -> str:
    """When, where and at which commits, and how quiet it was."""
    commits = ", ".join(dict.fromkeys(note.commit for note in noted))
    machines = "; ".join(dict.fromkeys(note.machine or "a machine not noted" for note in noted))
    others = [note.usage["others"] for note in noted]
    return (
        f"Measured from {min(n.date for n in noted)} to {max(n.date for n in noted)} (UTC) at {commits}, by `make "
        f"bench-engine`, on {machines}; other programs took {100 * median(others):.0f}% of the processor in the "
        f"median, {100 * max(others):.0f}% at most."
    )


def rates(notes: list[Note]) -> list[float]:
    """Examples a second of each run."""
    return [float(note.detail["rate"]) for note in notes]


def replay(notes: Notes) -> str | None:
    """The gain of replay, of what it can gain at most."""
    found = sorted((note for note in notes.all() if note.part.startswith("replay/")), key=lambda note: note.part)
    if not found:
        return None
    lines = ["## Engine: replay", "", measured_at(found), ""]
    lines += [
        "| top blocks of 6 | epochs | with replay, s | without, s | gain | bound | share | at least 85% |",
        *rule(8),
    ]
    for one in (note.detail for note in found):
        gains = [r["plain"] / r["replayed"] for r in one["rounds"]]
        bound = one["rounds"][0]["bound"]
        share = median(gains) / bound
        cells = (spread([r["replayed"] for r in one["rounds"]]), spread([r["plain"] for r in one["rounds"]]))
        lines.append(
            row(one["count"], one["epochs"], *cells, f"{median(gains):.2f}", f"{bound:.2f}", f"{100 * share:.0f}%",
                verdict(share >= REPLAYED))
        )  # fmt: skip
    lines += [
        "",
        "banking77, one stage of gradient steps from an empty cache; filling it and both verifications count.",
    ]
    return "\n".join([*lines, *equal_scores(notes)])


def equal_scores(notes: Notes) -> list[str]:
    """Whether models score the same with replay and without, their caches filled from other batches."""
    found = [note.detail for note in notes.all() if note.part.startswith("scores/")]
    if not found:
        return []
    pairs = sorted((one["seed"], 100 * one["auto"], 100 * one["off"]) for one in found)
    apart = mean(first - second for _, first, second in pairs)
    told = "; ".join(f"{first:.1f} and {second:.1f}" for _, first, second in pairs)
    measured = f"{apart:+.2f} points over {len(pairs)} seeds"
    asked = f"within {APART:.1f} points"
    return [
        "",
        *claims_head(),
        row("score with replay - without, trec, 64 rows a class", measured, asked, verdict(abs(apart) <= APART)),
        "",
        f"Test accuracy by seed, with and without: {told} ({found[0]['tested']} rows).",
    ]


def accuracy(notes: Notes) -> str | None:
    """Scores by set and size, the spread over seeds, and the regret of auto."""
    noted = [note for note in notes.all() if note.part.startswith("cell/")]
    found = [one for note in noted for one in methods(note)]
    if not found:
        return None
    lines = [
        "## Engine: accuracy of the methods",
        "",
        measured_at(noted),
        "",
        "Test score in percent (accuracy; phrasebank: weighted F1), mean over seeds ± standard deviation over seeds; "
        "the same subsamples for all. 8 and 64 are rows a class, 4000 rows in all. Every cell is in cells.jsonl.",
        "",
        "| set | size | seeds | " + " | ".join(METHODS) + " | SetFit |",
        *rule(len(METHODS) + 4),
    ]
    keys = sorted({(one["set"], one["size"]) for one in found}, key=lambda key: (key[1], key[0]))
    for name, size in keys:
        chosen = [one for one in found if (one["set"], one["size"]) == (name, size)]
        seeds = sorted({one["seed"] for one in chosen})
        scores = [shown([100 * one["score"] for one in chosen if one["method"] == method]) for method in METHODS]
        lines.append(row(name, size, len(seeds), *scores, setfit(notes, name, size)))
    lines += ["", *differences(found), "", *regret(found)]
    return "\n".join(lines)


def setfit(notes: Notes, name: str, size: int) -> str:
    """SetFit's scores on the same subsamples; marked where it took fewer pairs."""
    runs = [note for note in notes.all() if note.part.startswith(f"setfit/{name}/{size}/")]
    if not runs:
        return ""
    mark = "†" if any(note.detail["fewer"] for note in runs) else ""
    return shown([100 * note.detail["score"] for note in runs]) + mark


def shown(values: list[float]) -> str:
    """Mean and standard deviation."""
    if not values:
        return ""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def differences(found: list[dict[str, Any]]) -> list[str]:
    """Paired differences from the probe over all cells."""
    lines = ["| method minus probe, paired by cell | points, mean ± standard error | cells |", *rule(3)]
    by = {(one["set"], one["size"], one["seed"], one["method"]): one["score"] for one in found}
    for method in METHODS[1:]:
        pairs = [100 * (value - by[(*key[:3], "probe")]) for key, value in by.items() if key[3] == method]
        if len(pairs) > 1:
            lines.append(row(method, f"{mean(pairs):+.2f} ± {stdev(pairs) / len(pairs) ** 0.5:.2f}", len(pairs)))
    return lines


def regret(found: list[dict[str, Any]]) -> list[str]:
    """What auto loses to the best single method of a set and size, chosen on the other seeds."""
    by = {(one["set"], one["size"], one["seed"], one["method"]): one["score"] for one in found}
    lost = []
    for name, size, seed, method in by:
        others = [key for key in by if key[:2] == (name, size) and key[2] != seed]
        if method != "auto" or not others:
            continue
        best = max(SINGLES, key=lambda one: mean([by[key] for key in others if key[3] == one]))
        lost.append(100 * (by[(name, size, seed, best)] - by[(name, size, seed, "auto")]))
    if len(lost) < 2:
        return []
    middle, error = mean(lost), stdev(lost) / len(lost) ** 0.5
    high = middle + 1.96 * error
    bound = f"at most {REGRET:.1f} points, upper 95% bound at most {MOST_REGRET:.1f}"
    measured = f"{middle:+.2f} points (up to {high:+.2f}), {len(lost)} cells"
    return [*claims_head(), row("regret of auto", measured, bound, verdict(middle <= REGRET and high <= MOST_REGRET))]


def forecast(notes: Notes) -> str | None:
    """How far forecasts of time and memory were off, over the runs of the accuracy table."""
    noted = [note for note in notes.all() if note.part.startswith("cell/")]
    runs = [(one, note.usage["others"]) for note in noted for one in methods(note)]
    if not runs:
        return None
    quiet = [one for one, others in runs if others <= QUIET]
    lines = ["## Engine: forecasts", "", "| method | runs | median error of time | of memory |", *rule(4)]
    for method in METHODS:
        found = [one for one in quiet if one["method"] == method]
        if found:
            shares = [median(errors(found, took, told)) for _, took, told, _ in FORECASTS]
            lines.append(row(method, len(found), *(f"{100 * share:.0f}%" for share in shares)))
    lines += ["", *claims_head()]
    for name, took, told, bound in FORECASTS if quiet else ():
        error = median(errors(quiet, took, told))
        measured = f"{100 * error:.0f}% in the median of {len(quiet)} runs"
        lines.append(row(f"forecast of {name}", measured, f"at most {100 * bound:.0f}%", verdict(error <= bound)))
    lines += [
        "",
        "Time at the steps really taken. Every run is a process of its own; those during which other programs took "
        f"more than {100 * QUIET:.0f}% of the processor are left out ({len(runs) - len(quiet)} of {len(runs)}).",
    ]
    return "\n".join(lines)


def methods(note: Note) -> list[dict[str, Any]]:
    """The runs of one cell."""
    found: list[dict[str, Any]] = note.detail["methods"]
    return found


def errors(runs: list[dict[str, Any]], actual: str, expected: str) -> list[float]:
    """By how much the actual differs from the forecast, as a share of it."""
    return [abs(one[actual] / one[expected] - 1) for one in runs]

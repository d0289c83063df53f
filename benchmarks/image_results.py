"""The sections of RESULTS.md on images, from their notes."""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median, variance
from typing import Any

from engine_results import measured_at
from notes import Note, Notes
from results import HEAD, claims_head, placed, row, rule, spread, verdict

SECTIONS = ("accuracy", "speed", "replay")
NAMES = {
    "a": "(a) whet probe",
    "b": "(b) whet top blocks, 4 views",
    "c": "(c) whet full",
    "auto": "whet auto, its default",
    "d": "(d) Trainer at its defaults, 5 epochs",
    "e-frozen": "(e) plain loop, frozen backbone, 5 epochs",
    "e-full": "(e) plain loop, full, 5 epochs",
}
OURS, PEERS = ("a", "b", "c", "auto"), ("d", "e-frozen", "e-full")
NOT_WORSE = -0.01
REPLAYED = 0.85
TIMES = 2.0


def write(path: Path, notes: Notes) -> None:
    """Every section of which there are notes; the others stay as they are."""
    text = path.read_text(encoding="utf-8") if path.exists() else HEAD
    renderers: dict[str, Callable[[Notes], str | None]] = {"accuracy": accuracy, "speed": speed, "replay": replay}
    for name in SECTIONS:
        found = renderers[name](notes)
        if found is not None:
            text = placed(text, f"image/{name}", found, [f"image/{one}" for one in SECTIONS])
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def runs(notes: Notes, contender: str, name: str) -> dict[int, Note]:
    """The note of each split."""
    head = f"{contender}/{name}/"
    return {int(note.part.removeprefix(head)): note for note in notes.all() if note.part.startswith(head)}


def accuracy(notes: Notes) -> str | None:
    """Accuracy and time of whole processes on each set."""
    noted = [note for note in notes.all() if note.part.split("/")[0] in NAMES]
    if not noted:
        return None
    names = list(dict.fromkeys(note.part.split("/")[1] for note in noted))
    lines = ["## Images: whole processes", "", measured_at(noted), ""]
    for name in names:
        lines += [f"### {name}", "", "| | accuracy, mean over splits | wall s | peak MiB | splits |", *rule(5)]
        for contender, words in NAMES.items():
            found = list(runs(notes, contender, name).values())
            if found:
                shares = [100 * note.detail["accuracy"] for note in found]
                peaks = spread([note.usage["peak_bytes"] / 2**20 for note in found], 0)
                lines.append(row(words, f"{mean(shares):.1f}", spread([n.wall for n in found]), peaks, len(found)))
        lines += ["", *claims_head(), *claims(notes, name), ""]
    lines.append(
        "All start from MobileNetV2 (ImageNet) and read the same pictures, with empty caches. Split 0 of "
        "cifar10_subset is its official one; the others are drawn anew, copies on one side. Differences are paired by "
        "split; intervals are corrected for overlapping training sets (Nadeau and Bengio 2003)."
    )
    return "\n".join(lines)


def claims(notes: Notes, name: str) -> list[str]:
    """What was asked on one set."""
    found = []
    walls = {one: median(n.wall for n in runs(notes, one, name).values()) for one in NAMES if runs(notes, one, name)}
    for peer, bound in (("d", 8.0), ("e-frozen", 3.0)):
        if "a" in walls and peer in walls:
            times = walls[peer] / walls["a"]
            asked = f"at least {bound:g} times" if name == "cifar10_subset" else "shown"
            told = verdict(times >= bound) if name == "cifar10_subset" else ""
            found.append(row(f"(a) beside {NAMES[peer]}, time", f"{times:.1f} times as fast", asked, told))
            found.append(compared(notes, "a", peer, name))
    scores = {one: mean(n.detail["accuracy"] for n in runs(notes, one, name).values()) for one in walls}
    ours, peers = [one for one in OURS if one in scores], [one for one in PEERS if one in scores]
    if ours and peers:
        found.append(compared(notes, max(ours, key=scores.__getitem__), max(peers, key=scores.__getitem__), name))
    return found


def compared(notes: Notes, ours: str, peer: str, name: str) -> str:
    """The mean paired difference over common splits, with its corrected interval."""
    first, second = runs(notes, ours, name), runs(notes, peer, name)
    common = sorted(set(first) & set(second))
    differences = [first[one].detail["accuracy"] - second[one].detail["accuracy"] for one in common]
    middle = mean(differences) if differences else math.nan
    low, high = corrected(differences, first[common[0]].detail) if len(differences) > 1 else (-math.inf, math.inf)
    unsure = "" if low > NOT_WORSE or high < NOT_WORSE else "; by the interval: cannot tell"
    told = f"{100 * middle:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f}), {len(differences)} splits"
    return row(
        f"{NAMES[ours]} - {NAMES[peer]}, accuracy", told, "mean above -1 point", verdict(middle > NOT_WORSE) + unsure
    )


def corrected(differences: list[float], detail: dict[str, Any]) -> tuple[float, float]:
    """The 95% interval of a mean over repeated splits, whose training rows overlap.

    Source: Nadeau and Bengio 2003, "Inference for the Generalization Error", Machine Learning 52.
    """
    from scipy.stats import t

    number, tested = len(differences), detail["tested"]
    ratio = tested / max(1, detail["rows"] - tested) if detail.get("rows", 0) > tested else 0.25
    error = math.sqrt((1 / number + ratio) * variance(differences))
    reach = float(t.ppf(0.975, number - 1)) * error
    return mean(differences) - reach, mean(differences) + reach


def speed(notes: Notes) -> str | None:
    """Images a second of full tuning, with random weights."""
    found = [note for note in notes.all() if note.part.startswith("speed/")]
    if not found:
        return None
    words = {"whet": "whet full, batch 32", "trainer": "Trainer at its defaults, batch 8", "trainer-32": "batch 32"}
    lines = ["## Images: training speed, random weights", "", measured_at(found), ""]
    lines += ["| shape | | images/s | peak MiB | runs |", *rule(5)]
    asked = claims_head()
    for shape in dict.fromkeys(note.part.split("/")[2] for note in found):
        rates = {one: [n.detail["rate"] for n in notes.of(f"speed/{one}/{shape}")] for one in words}
        for one, name in words.items():
            peaks = [n.usage["peak_bytes"] / 2**20 for n in notes.of(f"speed/{one}/{shape}")]
            if rates[one]:
                lines.append(row(shape, name, spread(rates[one]), spread(peaks, 0), len(peaks)))
        for one in ("trainer", "trainer-32"):
            if rates["whet"] and rates[one]:
                times = median(rates["whet"]) / median(rates[one])
                told = verdict(times >= TIMES) if one == "trainer" else ""
                bound = f"at least {TIMES:g} times" if one == "trainer" else "shown"
                asked.append(row(f"{shape}: whet / {words[one]}", f"{times:.2f} times", bound, told))
    return "\n".join([*lines, "", *asked])


def replay(notes: Notes) -> str | None:
    """The gain of replay with four views, of what the plan says it can gain."""
    found = [note for note in notes.all() if note.part.startswith("bound/")]
    if not found:
        return None
    lines = ["## Images: replay with four views", "", measured_at(found), ""]
    lines += ["| epochs | with replay, s | without, s | gain | bound | share | at least 85% |", *rule(7)]
    for note in sorted(found, key=lambda one: one.detail["epochs"]):
        rounds = note.detail["rounds"]
        gain, bound = median(r["plain"] / r["replayed"] for r in rounds), rounds[0]["bound"]
        seconds = [spread([r[name] for r in rounds]) for name in ("replayed", "plain")]
        share = f"{100 * gain / bound:.0f}%"
        lines.append(
            row(
                note.detail["epochs"], *seconds, f"{gain:.2f}", f"{bound:.2f}", share, verdict(gain / bound >= REPLAYED)
            )
        )
    lines += [
        "",
        "cifar10_subset, the top blocks of MobileNetV2, one stage from an empty cache, verifications counted.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit("bench_image.py --report writes these")

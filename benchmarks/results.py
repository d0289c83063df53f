"""RESULTS.md from the notes: one section a question, between markers; whatever stands outside them is kept."""

import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from answers import NOT_WORSE, Answers, TestFile, difference
from notes import Note, Notes

if TYPE_CHECKING:
    from bench_text import Bench

PLATEAU = 0.002
"""The plateau is the first epoch whose best accuracy so far no later epoch exceeds by this much."""
SECTIONS = ("machine", "probe", "auto", "full", "sst2", "forward", "start-up", "rows")
HEAD = """# Results

Written by `make bench-text`; what stands outside the marked sections is kept. How to run it, and what the files are,
is in README.md; experiments that failed are in LOG.md.
"""


def write(path: Path, bench: "Bench") -> None:
    """Every section of which there are notes; the others stay as they are."""
    text = path.read_text(encoding="utf-8") if path.exists() else HEAD
    tables = Tables(bench)
    renderers: dict[str, Callable[[], str | None]] = {
        "machine": tables.machine,
        "probe": tables.probe,
        "auto": tables.auto,
        "full": tables.full,
        "sst2": tables.sst2,
        "forward": tables.forward,
        "start-up": tables.start_up,
        "rows": tables.rows,
    }
    for name in SECTIONS:
        found = renderers[name]()
        if found is not None:
            text = placed(text, f"text/{name}", found, [f"text/{one}" for one in SECTIONS])
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def placed(text: str, name: str, section: str, order: list[str]) -> str:
    """The text with one section replaced, or put before those that follow it in ``order``, or at the end."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    whole = f"{begin}\n{section.strip()}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(text):
        return pattern.sub(lambda _: whole, text, count=1)
    for mark in (f"<!-- begin {one} -->" for one in order[order.index(name) + 1 :]):
        if mark in text:
            return text.replace(mark, f"{whole}\n\n{mark}", 1)
    return f"{text.rstrip()}\n\n{whole}\n"


def plateau(epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """The first epoch whose best accuracy so far no later one exceeds by ``PLATEAU``: the best by then."""
    best = epochs[0]
    for number, epoch in enumerate(epochs):
        best = max(best, epoch, key=lambda one: one["accuracy"])
        if max(one["accuracy"] for one in epochs[number:]) - best["accuracy"] < PLATEAU:
            return best
    return best


def soonest(notes: Notes) -> tuple[str, dict[str, Any]]:
    """The schedule of (d2) that reaches its plateau first, and that epoch: the peer at its best.

    Raises:
        ValueError: no schedule is noted yet.
    """
    found = {part: plateau(notes.of(part)[0].detail["epochs"]) for part in ("d2", "d2-short") if notes.of(part)}
    if not found:
        raise ValueError("its time is that of d2 to its plateau, and d2 is not noted yet")
    part = min(found, key=lambda name: found[name]["seconds"])
    return part, found[part]


def reached(epochs: list[dict[str, Any]], accuracy: float) -> dict[str, Any] | None:
    """The first epoch with at least this accuracy."""
    return next((epoch for epoch in epochs if epoch["accuracy"] >= accuracy), None)


class Tables:
    """Every section as Markdown; None where nothing was measured yet."""

    def __init__(self, bench: "Bench") -> None:
        self.notes: Notes = bench.notes
        self.bench = bench
        self.banking = TestFile.read(bench.banking.train, bench.banking.test, bench.banking.target)
        self.sentiment = TestFile.read(bench.sentiment.train, bench.sentiment.test, bench.sentiment.target)

    def machine(self) -> str | None:
        """Processor, memory, versions, date and how quiet it was."""
        notes = self.notes.of("machine")
        if not notes:
            return None
        facts, every = notes[-1].detail, self.notes.all()
        dates, commits = sorted(note.date for note in every), list(dict.fromkeys(note.commit for note in every))
        features = " ".join(name for name in facts["features"])
        lines = [
            "## Machine and run",
            "",
            f"- Processor: {facts['processor']}, {facts['cores']} cores ({features}); "
            f"{facts['memory'] / 2**30:.0f} GiB of memory; {facts['system']}.",
            f"- Python {facts['python']}; {', '.join(f'{k} {v}' for k, v in facts['versions'].items())}; "
            f"torch uses {facts['threads']} threads unless a program says otherwise.",
            f"- Measured from {dates[0]} to {dates[-1]} (UTC) at {', '.join(commits)}, by `make bench-text`.",
            f"- Other programs took {100 * median(n.usage['others'] for n in every):.0f}% of the processor in the "
            f"median, {100 * max(n.usage['others'] for n in every):.0f}% at most.",
            "- Wall and processor time (user and system) of whole processes, imports included; peak memory is the "
            "largest resident set, mapped files included. Each process starts with empty caches (a home folder of "
            "its own); the system's disk cache and Python's compiled modules are warm for all alike.",
            "- Median (least to most) where there are several runs; contenders alternate.",
            f"- Not worse: the lower 95% bound of the paired accuracy difference is above {100 * NOT_WORSE:.1f} point.",
        ]
        if self.bench.smoke:
            lines[1:1] = ["", f"**A trial of the script on {self.bench.smoke} rows: no number here means anything.**"]
        return "\n".join(lines)

    def probe(self) -> str | None:
        """(a) beside (e), (d), (d2)."""
        if not self.notes.of("a"):
            return None
        lines = ["## Probe: banking77, whole processes", ""]
        lines += ["| | wall s | processor s | peak MiB | accuracy (95% interval) | runs |", *rule(6)]
        names = {
            "a": "(a) whet probe, checks, judge and report included",
            "a-warm": "(a) again, warm cache",
            "e": "(e) sentence-transformers + scikit-learn, C by 5-fold",
            "d2": "(d2) Trainer well set, every epoch",
            "d2-short": "(d2) with a shorter schedule, every epoch",
            "d": "(d) Trainer at its defaults, 3 epochs",
        }
        for part, name in names.items():
            notes = self.notes.of(part)
            if notes:
                name += self.extrapolated("stopped after") if part == "d" else ""
                cells = [name, self.walls(part), spread([note.processor for note in notes]), self.peaks(part)]
                lines.append(row(*cells, shown_accuracy(self.answers(part)), len(notes)))
        lines += [
            "",
            "All start from the packaged all-MiniLM-L6-v2, one seed each. (e): defaults, lbfgs, C from "
            "{0.1, 1, 10, 100}, fewer than the library's ten. (d): defaults but for 3 epochs and nothing saved. "
            "(d2): rate 2e-4, batch 32, bf16, grouped lengths, mean-pooled head, linear decay over its schedule; its "
            "seconds here include answering the test set after every epoch, those by epoch below do not. (d) and (d2) "
            "ran once.",
        ]
        for more in (self.epoch_lines(), self.probe_parts(), self.probe_claims()):
            lines += ["", *more] if more else []
        return "\n".join(lines)

    def epoch_lines(self) -> list[str]:
        """What (d2) reached when."""
        lines = ["(d2) by epoch, seconds since its process began, evaluation left out:", ""]
        for part in ("d2", "d2-short"):
            for note in self.notes.of(part)[:1]:
                epochs = note.detail["epochs"]
                told = "; ".join(f"{e['epoch']}: {e['accuracy']:.4f} at {e['seconds']:.0f} s" for e in epochs)
                top = plateau(epochs)
                lines.append(
                    f"- schedule of {len(epochs)} epochs: {told}. Plateau: epoch {top['epoch']}, "
                    f"{top['accuracy']:.4f} at {top['seconds']:.0f} s; evaluation took another "
                    f"{note.detail['evaluating']:.0f} s."
                )
        lines.append(
            f"\nPlateau: the first epoch whose best accuracy so far no later epoch exceeds by {100 * PLATEAU:.1f} "
            "points or more. It is read off the test set, which favours the peer: it stops at its best moment."
        )
        return lines if len(lines) > 3 else []

    def probe_parts(self) -> list[str]:
        """Where (a)'s time goes."""
        notes = self.notes.of("a")
        names = list(dict.fromkeys(name for note in notes for name in note.detail["parts"]))
        told = [f"{name} {median(note.detail['parts'].get(name, 0.0) for note in notes):.1f}" for name in names]
        rest = median(note.wall - sum(note.detail["parts"].values()) for note in notes)
        tfidf = self.tfidf()
        return [
            f"Seconds of (a) by part: {', '.join(told)}; {rest:.1f} outside them (report). The TF-IDF "
            f"baseline takes {tfidf:.1f} s of the {self.wall('a'):.1f} s; {self.wall('a') - tfidf:.1f} s without it."
        ]

    def probe_claims(self) -> list[str]:
        """What was asked of (a)."""
        lines = claims_head()
        ours, wall, short = self.answers("a"), self.wall("a"), self.wall("a") - self.tfidf()
        if self.notes.of("e"):
            lines.append(ratio_claim("(a) / (e), time", wall, self.wall("e"), 2, short))
            lines.append(paired_claim("(a) - (e), accuracy", ours, self.answers("e")))
        runs = [note.detail["epochs"] for part in ("d2", "d2-short") for note in self.notes.of(part)[:1]]
        if runs and ours:
            times = [hit["seconds"] for epochs in runs if (hit := reached(epochs, ours.accuracy))]
            if times:
                name = "(a) / time in which (d2) first reaches (a)'s accuracy"
                lines.append(ratio_claim(name, wall, min(times), 6, short, aim=10))
            else:
                longest = max(epochs[-1]["seconds"] for epochs in runs)
                name = "(a) / (d2)'s whole time; it never reached (a)'s accuracy"
                lines.append(ratio_claim(name, wall, longest, 6, short, aim=10))
        if self.notes.of("d"):
            lines.append(ratio_claim("(a) / (d), time" + self.extrapolated(), wall, self.whole_d(), 20, short, aim=40))
            lines.append(paired_claim("(a) - (d), accuracy", ours, self.answers("d"), bound=False))
        if self.notes.of("d2"):
            lines.append(paired_claim("(a) - (d2) at its plateau, accuracy", ours, self.answers("d2"), bound=False))
        peak = max(note.usage["peak_bytes"] for note in self.notes.of("a")) / 2**30
        lines.append(row("(a), peak memory", f"{peak:.2f} GiB", "at most 1.5 GiB", verdict(peak <= 1.5)))
        return lines

    def auto(self) -> str | None:
        """(b) beside (a) and (d2)."""
        notes = self.notes.of("b")
        if not notes or not self.notes.of("d2"):
            return None
        note, (peer, top) = notes[-1], soonest(self.notes)
        ours = self.answers("b")
        lines = [
            f"## Auto: banking77, --time {max(20, round(top['seconds']))}s, the time of the sooner (d2) to its plateau",
            "",
            f"Won by {note.detail['method']}, after {note.wall:.0f} s wall and {note.processor:.0f} s of the "
            f"processor, {note.usage['peak_bytes'] / 2**20:.0f} MiB; test accuracy {shown_accuracy(ours)}. Ran once.",
            "",
            *rungs_table(note),
            "",
            reached_line(note, top["accuracy"]),
            "",
            *claims_head(),
            row("(b), wall", f"{note.wall:.0f} s", f"{top['seconds']:.0f} s", verdict(note.wall <= top["seconds"])),
        ]
        if self.notes.of("a"):
            lines.append(paired_claim("(b) - (a), accuracy", ours, self.answers("a")))
        lines.append(paired_claim("(b) - (d2) at that plateau, accuracy", ours, self.answers(peer)))
        if peer != "d2":
            lines.append(
                paired_claim("(b) - (d2) at the plateau of ten epochs, accuracy", ours, self.answers("d2"), bound=False)
            )
        return "\n".join(lines)

    def full(self) -> str | None:
        """(c) beside (d) and (d2): examples a second."""
        if not self.notes.of("c"):
            return None
        names = {
            "c": "(c) whet full, native head",
            "c-frozen": "(c) with embeddings frozen",
            "d-rate": "(d) Trainer at its defaults",
            "d32-rate": "(d) with batches of 32",
            "d2-rate": "(d2) Trainer well set",
        }
        lines = ["## Full: training speed on banking77", ""]
        lines += ["| | batch | examples/s | peak MiB | runs |", *rule(5)]
        for part, name in names.items():
            notes = self.notes.of(part)
            if notes:
                rates = [note.detail["rate"] for note in notes]
                cells = (name, notes[0].detail["batch"], spread(rates, 0), self.peaks(part), len(notes))
                lines.append(row(*cells))
        batch, tensors = self.notes.of("c")[0].detail["batch"], self.notes.of("tensors")
        machinery = self.notes.of("c")[0].detail["machinery"]
        lines += [
            "",
            "Steady state: the first 5 steps left out; whet over one epoch, the Trainer over 150 steps, its data "
            "loading counted, whet's likewise; evaluation in neither. "
            f"whet: dense AdamW, {machinery['training_precision']}, {self.notes.of('c')[0].detail['attention']} "
            "attention without dropout on attention weights (its default; the Trainer drops a tenth of them).",
        ]
        if tensors:
            t = tensors[-1].detail
            same = t["whet_parameters"] == t["trainer_parameters"] and t["whet_tensors"] == t["trainer_tensors"]
            lines.append(
                f"whet trains {t['whet_tensors']} tensors with {t['whet_parameters']:,} numbers, (d) "
                f"{t['trainer_tensors']} with {t['trainer_parameters']:,}: {'the same' if same else 'NOT the same'}."
            )
        lines += ["", *claims_head()]
        ours = self.rate("c")
        for part, bound, aim in (("d-rate", 5.0, None), ("d32-rate", 5.0, None), ("d2-rate", 1.5, 2.0)):
            if self.notes.of(part):
                ratio = ours / self.rate(part)
                wish = f" (aim {aim:g}: {verdict(ratio >= aim)})" if aim else ""
                asked = f"at least {bound:g} times{wish}"
                name = f"(c) at batch {batch} / {names[part]}, examples/s"
                lines.append(row(name, f"{ratio:.2f} times", asked, verdict(ratio >= bound)))
        return "\n".join(lines)

    def sst2(self) -> str | None:
        """The gain of deeper tuning on a hard set."""
        parts = ("sst2-probe", "sst2-auto")
        if not all(self.notes.of(part) for part in parts):
            return None
        probe, auto = (self.notes.of(part)[-1] for part in parts)
        scored = [self.run_answers(note, self.sentiment) for note in (probe, auto)]
        lines = ["## Auto on a harder set: sst2", ""]
        lines += ["| | wall s | processor s | peak MiB | accuracy (95% interval) |", *rule(5)]
        for name, note, found in zip(("probe", f"{auto.detail['method']}"), (probe, auto), scored, strict=True):
            peak = f"{note.usage['peak_bytes'] / 2**20:.0f}"
            lines.append(row(name, f"{note.wall:.0f}", f"{note.processor:.0f}", peak, shown_accuracy(found)))
        found = difference(scored[1], scored[0])
        gain = f"{100 * found.difference:+.1f} points ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
        lines += ["", *rungs_table(auto), "", *claims_head()]
        lines.append(row("auto - probe, accuracy", gain, "several points", verdict(found.low > 0)))
        return "\n".join([*lines, "", "Ran once. Pass here means: the 95% interval of the gain lies above zero."])

    def forward(self) -> str | None:
        """Share of the matrix-product peak."""
        notes = self.notes.of("forward")
        if not notes:
            return None
        f = notes[-1].detail
        lines = [
            "## Frozen forward",
            "",
            f"{f['rows']:,} texts, {f['tokens']:,} tokens, {f['parameters']:,} parameters in blocks, "
            f"{f['precision']}, {f['attention']} attention, {f['threads']} threads, at most {f['most_tokens']} tokens "
            f"a batch: {spread(f['seconds'], 2)} s in {len(f['seconds'])} runs, the first "
            f"{f['seconds'][0]:.2f} s; {f['forward_gflops']:.0f} GFLOP/s in the median. Peak, the best of ten "
            f"4096-cubed bf16 products in the same process: {f['peak_gflops']:.0f} GFLOP/s. Attention's own products "
            f"are not counted. Tokenising takes {f['encoding_seconds']:.2f} s.",
            "",
            *claims_head(),
            row("share of the peak", f"{100 * f['share']:.0f}%", "at least 50%", verdict(f["share"] >= 0.5)),
        ]
        if f["share"] < 0.5:
            lines += ["", "What was tried, and where the time goes, is in LOG.md."]
        return "\n".join(lines)

    def start_up(self) -> str | None:
        """The command and the import."""
        notes = self.notes.of("command")
        if not notes:
            return None
        facts = notes[-1].detail
        seconds, loaded = median(facts["help"]), facts["loaded"]
        told = "no torch" if "torch" not in loaded else "torch"
        return "\n".join(
            [
                "## Start",
                "",
                *claims_head(),
                row("`whet --help`", f"{spread(facts['help'], 3)} s", "a third of a second", verdict(seconds <= 1 / 3)),
                row("`import whet` loads", told, "no torch", verdict("torch" not in loaded)),
            ]
        )

    def rows(self) -> str | None:
        """Memory a row."""
        notes = self.notes.of("rows")
        if not notes:
            return None
        facts = notes[-1].detail
        counts = [str(count) for count in facts["counts"]]
        lines = [f"## Memory of many rows, {facts['row_bytes']:.0f} bytes each", ""]
        lines += [
            "| peak by then, MiB (seconds) | " + " | ".join(f"{int(c):,} rows" for c in counts) + " | bytes a row |"
        ]
        lines += rule(4)
        for step, per_row in facts["per_row"].items():
            found = [facts["steps"][count][step] for count in counts]
            cells = [f"{one['peak'] / 2**20:.0f} ({one['seconds']:.0f})" for one in found]
            lines.append(row(step, *cells, f"{per_row:.1f}"))
        last = facts["per_row"]["tokenise"]
        lines += ["", *claims_head()]
        lines.append(row("checked, split and tokenised", f"{last:.1f} bytes a row", "at most 64", verdict(last <= 64)))
        return "\n".join(lines)

    def answers(self, part: str) -> Answers | None:
        """Of the first run of one part on banking77; (d2)'s at its plateau."""
        notes = self.notes.of(part)
        if not notes:
            return None
        folder = self.bench.work / "runs" / f"{part}-{notes[0].number}"
        if "parts" in notes[0].detail:
            return self.run_answers(notes[0], self.banking)
        name = "answers.npz"
        if "epochs" in notes[0].detail:
            name = f"epoch-{plateau(notes[0].detail['epochs'])['epoch']}.npz"
        return self.banking.from_peer(folder / name) if (folder / name).exists() else None

    def run_answers(self, note: Note, test: TestFile) -> Answers:
        """Of a whet run."""
        return test.from_run(self.bench.work / "runs" / f"{note.part}-{note.number}" / "out")

    def wall(self, part: str) -> float:
        return median(note.wall for note in self.notes.of(part))

    def walls(self, part: str) -> str:
        return spread([note.wall for note in self.notes.of(part)])

    def peaks(self, part: str) -> str:
        return spread([note.usage["peak_bytes"] / 2**20 for note in self.notes.of(part)], 0)

    def rate(self, part: str) -> float:
        return median(note.detail["rate"] for note in self.notes.of(part))

    def tfidf(self) -> float:
        """Seconds of the TF-IDF baseline in (a)."""
        return median(note.detail["parts"].get("baseline tfidf", 0.0) for note in self.notes.of("a"))

    def whole_d(self) -> float:
        """Wall seconds of (d); where it was stopped early, the rest follows from its rate."""
        note = self.notes.of("d")[-1]
        left = note.detail["steps_in_all"] - note.detail["steps"]
        return note.wall + left * note.detail["batch"] / note.detail["rate"]

    def extrapolated(self, word: str = "extrapolated from") -> str:
        """A remark, where (d)'s time is not measured whole."""
        detail = self.notes.of("d")[-1].detail
        if detail["steps"] == detail["steps_in_all"]:
            return ""
        return f" ({word} {detail['steps']} of {detail['steps_in_all']} steps)"


def row(*cells: Any) -> str:
    """One line of a table."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def rule(columns: int) -> list[str]:
    """The line under a table's head."""
    return [row(*["---"] * columns)]


def claims_head() -> list[str]:
    """The head of a table of claims."""
    return [row("asked", "measured", "bound", "verdict"), *rule(4)]


def verdict(holds: bool) -> str:
    """Pass or miss."""
    return "pass" if holds else "**miss**"


def spread(values: list[float], digits: int = 1) -> str:
    """Median, with least and most where there are several."""
    middle = f"{median(values):,.{digits}f}"
    return middle if len(values) < 2 else f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def shown_accuracy(found: Answers | None) -> str:
    """Accuracy with its interval."""
    if found is None:
        return "not measured"
    return f"{found.accuracy:.4f} ({found.interval.low:.4f} to {found.interval.high:.4f})"


def ratio_claim(name: str, ours: float, theirs: float, times: float, short: float, aim: float | None = None) -> str:
    """Ours is at most one ``times``-th of theirs; ``short`` is ours without the TF-IDF baseline."""
    measured = f"{ours:.1f} / {theirs:.1f} s = 1/{theirs / ours:.1f} (without TF-IDF 1/{theirs / short:.1f})"
    wish = f" (aim 1/{aim:g}: {verdict(theirs / ours >= aim)})" if aim else ""
    holds = verdict(theirs / ours >= times)
    if theirs / ours < times <= theirs / short:
        holds += ", caused by TF-IDF alone"
    return row(name, measured, f"at most 1/{times:g}{wish}", holds)


def paired_claim(name: str, ours: Answers | None, theirs: Answers | None, bound: bool = True) -> str:
    """The paired difference in points, and whether ours is not worse."""
    if ours is None or theirs is None:
        return row(name, "not measured", "not worse" if bound else "shown", "")
    found = difference(ours, theirs)
    measured = f"{100 * found.difference:+.2f} points ({100 * found.low:+.2f} to {100 * found.high:+.2f})"
    return row(name, measured, "not worse" if bound else "shown", verdict(found.low > NOT_WORSE) if bound else "")


def rungs_table(note: Note) -> list[str]:
    """What the ladder did."""
    lines = [
        row("rung", "s", "steps", "score on rows kept for choosing", "gain, points (80% low, 95% high)", "why"),
        *rule(6),
    ]
    for rung in note.detail["rungs"]:
        gain = ""
        if rung["gain"] is not None:
            gain = f"{rung['gain']:+.1f} ({rung['gain_low']:+.1f}, {rung['gain_high']:+.1f})"
        score = "" if rung["score"] is None else f"{rung['score']:.4f}"
        lines.append(row(rung["name"], f"{rung['seconds']:.1f}", rung["steps"], score, gain, rung["why"]))
    return lines


def reached_line(note: Note, accuracy: float) -> str:
    """When the ladder first had a rung as good as (d2)'s plateau, as far as its validation rows can tell."""
    parts = note.detail["parts"]
    inside = ("start, read, check and plan", "encode", "fit")
    clock = note.wall - sum(parts.values()) + sum(seconds for name, seconds in parts.items() if name in inside[:2])
    for rung in note.detail["rungs"]:
        clock += rung["seconds"]
        if rung["score"] is not None and rung["score"] >= accuracy:
            return (
                f"First at (d2)'s plateau accuracy ({accuracy:.4f}): the rung {rung['name']}, at most {clock:.0f} s "
                "after the process began, by its score on the validation rows kept for choosing (a few hundred, so "
                "within about two points); the test set is opened once, at the end."
            )
    return (
        f"No rung scored (d2)'s plateau accuracy ({accuracy:.4f}) on the few hundred validation rows kept for "
        "choosing, where a score is known within about two points; the test set is opened once, at the end."
    )

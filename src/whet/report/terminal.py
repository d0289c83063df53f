"""What does the user see in the terminal? The lines of ``lines.py``, in colour, through rich.

Every function takes the rich console to print on. A console that is no terminal gets the same lines without colour.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from whet.data.rows import Finding
from whet.report.inspected import Inspection
from whet.report.inspected_lines import inspection_lines
from whet.report.lines import (
    Line,
    cost_words,
    data_lines,
    finding_lines,
    fit_encoding,
    ladder_lines,
    paragraph_lines,
    plan_lines,
    table_lines,
    verdict_lines,
    wrapped,
)
from whet.report.section_use import commands
from whet.report.story import Cost, DataFacts, Story
from whet.report.words import account_words, cost_of, one_line, plural, size

if TYPE_CHECKING:
    from rich.console import Console


def show(lines: Sequence[Line], console: "Console") -> None:
    """Print ready lines; no markup of rich is read in them."""
    from rich.text import Text

    for line in lines:
        spans = [(fit_encoding(text, console.encoding), style) for text, style in line]
        ready = Text.assemble(*spans)
        ready.rstrip()
        console.print(ready, soft_wrap=True, highlight=False)


def print_data(data: DataFacts, console: "Console") -> None:
    """The data line: source, rows of each split, classes, columns."""
    show(data_lines(data), console)


def print_findings(
    findings: Sequence[Finding], console: "Console", level: str = "info", place: str = "in the report"
) -> None:
    """What the checks found, from ``level`` ("error", "warning", "info") up; one line when there is nothing.

    Args:
        place: Where those below the level are told.
    """
    lines, hidden = finding_lines(findings, _width(console), level), len(findings)
    noted = f" {plural(hidden, 'note')} {'is' if hidden == 1 else 'are'} {place}." if hidden else ""
    show(lines or [[("  ✓ ", "bold green"), (f"The checks found nothing to mend.{noted}", "")]], console)


def print_plan(plan: Mapping[str, Any], console: "Console") -> None:
    """Every field of the plan, a paragraph for each part."""
    show(plan_lines(plan, _width(console)), console)


def print_brief(parts: Mapping[str, str], forecast: Cost, console: "Console") -> None:
    """The choices of a plan in a few words each, and the forecast."""
    show(paragraph_lines({**parts, "forecast": cost_words(forecast)}, _width(console)), console)
    show([[]], console)


def print_facts(parts: Mapping[str, str], sentence: str, command: str, console: "Console") -> None:
    """Facts by name, what they mean, and the command to go on with, in one line so that it can be copied."""
    width = _width(console)
    said: list[Line] = [[(f"  {text}", "")] for text in wrapped(sentence, width - 2)]
    show([*paragraph_lines(parts, width), [], *said, [], [("  use     ", "dim"), (command, "cyan")]], console)


def print_verdict(story: Story, console: "Console") -> None:
    """Scores beside the baselines, the answer, where the report is and how to use the model."""
    show([*ladder_lines(story, _width(console)), *verdict_lines(story, _width(console))], console)
    folder = one_line(story.path, 1000)
    took = cost_of(story.seconds, story.forecast.seconds, story.forecast_taken)
    if story.actual.memory_bytes is not None and story.forecast.memory_bytes is not None:
        took += f" · {size(story.actual.memory_bytes)} memory (forecast {size(story.forecast.memory_bytes)})"
    stopped = " · stopped by you: the model is the best until then" if story.interrupted else ""
    lines: list[Line] = [[("  took    ", "dim"), (took, ""), (stopped, "yellow")]]
    for name, account in story.accounts.items():
        lines.append([(f"  {one_line(name):<7} ", "dim"), (one_line(account_words(account)), "")])
    lines.append([("  report  ", "dim"), (f"{folder}/report.html", "underline")])
    lines += [[("  curves  ", "dim"), (one_line(command, 1000), "cyan")] for command in story.views.values()]
    lines.append([("  use     ", "dim"), (commands(story).splitlines()[0], "cyan")])
    show(lines, console)


def print_inspection(found: Inspection, console: "Console") -> None:
    """An inspected model, from its provenance to what its blocks tell."""
    show(inspection_lines(found, _width(console)), console)


def print_models(records: Sequence[Mapping[str, Any]], console: "Console") -> None:
    """Models at hand: packaged, local, cached."""
    print_table(records, console, "No model is on this machine. Name one of the hub with --model.")


def print_runs(records: Sequence[Mapping[str, Any]], console: "Console") -> None:
    """Runs in a folder, newest first as given."""
    print_table(records, console, "No runs here yet. Try: whet demo")


def print_doctor(records: Sequence[Mapping[str, Any]], console: "Console") -> None:
    """What this machine has, one fact a paragraph: none is cut, as a table would."""
    facts = {str(record["what"]): str(record["found"]) for record in records}
    lines = paragraph_lines(facts, _width(console))
    show(lines or [[("  Nothing could be measured on this machine.", "")]], console)


def print_table(records: Sequence[Mapping[str, Any]], console: "Console", nothing: str = "Nothing to show.") -> None:
    """Records as a table; ``nothing`` when there are none."""
    show(table_lines(records, _width(console)) if records else [[(f"  {nothing}", "")]], console)


def print_checked(findings: Sequence[Finding], console: "Console") -> None:
    """The last line of ``whet check``: how many findings must be mended before a run."""
    errors = sum(one.level == "error" for one in findings)
    warnings = sum(one.level == "warning" for one in findings)
    if errors:
        line: Line = [("  ✗ ", "bold red"), (f"{plural(errors, 'finding')} must be mended first.", "")]
    else:
        line = [("  ✓ ", "bold green"), (f"Ready to fine-tune, with {plural(warnings, 'warning')}.", "")]
    show([[], line], console)


def _width(console: "Console") -> int:
    return min(console.width, 110)

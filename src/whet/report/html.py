"""What does one run look like as a page? A single file that needs no network, no script and no font of its own.

The page may run exactly one script, named by its hash in the page's security policy: it sorts tables and opens folds
before printing. Everything can be read without it.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path

from whet.atomic import written
from whet.evaluation.records import Judgement
from whet.report import section_classes, section_data, section_making, section_rows, section_scores, section_use
from whet.report.markup import Html, join, label, section, tag
from whet.report.section_verdict import figures, notes, verdicts
from whet.report.story import Story
from whet.report.words import day, one_line

_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    if (!head.textContent) return;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = row => row.cells[column].dataset.sort ?? row.cells[column].textContent;
      const order = (a, b) => key(a).localeCompare(key(b), undefined, {numeric: true});
      const number = (a, b) => key(a) - key(b);
      const rows = [...table.tBodies[0].rows];
      const plain = rows.every(row => row.cells[column].dataset.sort !== undefined);
      rows.sort((a, b) => (up ? 1 : -1) * (plain ? number(a, b) : order(a, b)));
      table.tBodies[0].append(...rows);
    };
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(one => { one.open = true; }));
"""


def render_report(story: Story) -> str:
    """The whole report as one HTML page."""
    title = f"{one_line(story.name, 80)}: whet report"
    return page(title, tag("main", *_chapters(story)), tag("script", Html(_SCRIPT)))


def page(title: str, *body: Html) -> str:
    """A whole page with whet's style, which loads nothing from anywhere."""
    return f"<!doctype html>\n{tag('html', _head(title), tag('body', *body), lang='en')}\n"


def write_report(story: Story, path: str | Path) -> Path:
    """Write the report: a reader never meets half a page."""
    return write_page(render_report(story), path)


def write_page(text: str, path: str | Path) -> Path:
    """Write a page, whole or not at all."""
    target = Path(path)
    with written(target) as beside:
        beside.write_text(text, encoding="utf-8")
    return target


def _head(title: str) -> Html:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy()),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Html(_style())),
    )


@cache
def _policy() -> str:
    """Nothing may be loaded; one script may run, and only with these very letters."""
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    allowed = f"script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


@cache
def _style() -> str:
    return files("whet.report").joinpath("report.css").read_text(encoding="utf-8")


def _chapters(story: Story) -> list[Html]:
    single = len(story.judgements) == 1
    judged = [_judged(story, one, index, single) for index, one in enumerate(story.judgements)]
    rest = [
        section("data", "The data", section_data.data(story)),
        section("making", "How it was made", section_making.making(story)),
        section("use", "Use the model", section_use.use(story)),
        section("provenance", "Where it comes from", section_use.provenance(story)),
        section("words", "Small print", section_use.small_print()),
    ]
    top = [_masthead(story), verdicts(story), figures(story), _contents(story), notes(story)]
    return [*top, *judged, *rest]


def _masthead(story: Story) -> Html:
    brand = tag("span", "whet", class_="brand")
    made = tag("span", day(story.created), class_="made")
    return tag("header", brand, tag("h1", label(story.name)), made)


def _contents(story: Story) -> Html:
    tests = [(f"test-{index}", one.test) for index, one in enumerate(story.judgements)]
    first = (
        [("test-0", "Scores"), ("classes-0", _kind_title(story)), ("rows-0", "Rows to look at")]
        if len(tests) == 1
        else tests
    )
    rest = [("data", "Data"), ("making", "Making"), ("use", "Use it"), ("provenance", "Provenance"), ("words", "Words")]
    links = [tag("a", one_line(name, 60), href=f"#{anchor}") for anchor, name in (*first, *rest)]
    return tag("nav", *links, aria_label="On this page")


def _judged(story: Story, judgement: Judgement, index: int, single: bool) -> Html:
    """Scores, classes and rows of one test set; its name is in the titles when there are several."""
    test = "" if single else f" · {one_line(judgement.test, 60)}"
    return join(
        [
            section(f"test-{index}", f"Scores{test}", section_scores.scores(story, judgement)),
            section(f"classes-{index}", f"{_kind_title(story)}{test}", section_classes.classes(story, judgement)),
            section(f"rows-{index}", f"Rows to look at{test}", section_rows.rows(story, judgement)),
        ]
    )


def _kind_title(story: Story) -> str:
    return {"classification": "Classes", "multi-label": "Labels", "regression": "Numbers"}[story.task]

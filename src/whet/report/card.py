"""What does the model card say? A README.md with the hub's metadata header, for whoever meets the model first there.

The header is YAML in which every text stands in double quotes, and the body is Markdown in which texts of users
are escaped, so that no label can add a key, a link or markup.
"""

import json
import re

from whet.evaluation.records import Judgement, Score
from whet.report.section_use import commands, plain_limit, python_with_whet
from whet.report.section_verdict import compared
from whet.report.story import Story
from whet.report.words import (
    account_words,
    clean,
    count,
    day,
    duration,
    gained,
    in_points,
    interval_text,
    joined,
    learner_name,
    metric_name,
    one_line,
    plural,
    points,
    score_text,
)

# Licence identifiers that the hub knows; others go under "other" with their name.
_LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0"),
    *("cc-by-nc-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "afl-3.0", "artistic-2.0", "openrail", "gemma"),
)
_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_HUB_METRICS = {"macro-f1": "f1", "micro-f1": "f1", "exact-match": "exact_match", "log-loss": "log_loss"}
# Signs that mean something anywhere, the colon of an address, and what opens a heading, list or quote.
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$]|:(?=//)|(?<=www)\.|^[#+=-]|(?<=^\d)[.)])")
_SHOWN_LABELS = 100


def render_card(story: Story) -> str:
    """README.md of the packaged model: metadata header and body."""
    body = [
        f"# {markdown(story.name)}",
        *(_verdict(one) for one in story.judgements),
        _about(story),
        *(_scores(one) for one in story.judgements),
        _limits(story),
        _use(story),
        _provenance(story),
    ]
    return "---\n" + "\n".join(header(story)) + "\n---\n\n" + "\n\n".join(part for part in body if part) + "\n"


def markdown(text: str) -> str:
    """Text of a user inside Markdown: one line, with nothing left that Markdown or HTML would read."""
    safe = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", safe)


def quoted(text: str) -> str:
    """A YAML scalar in double quotes; JSON's quoting is YAML's once what cannot be printed is gone."""
    return json.dumps(clean(text).replace("\ufeff", ""), ensure_ascii=False)


def header(story: Story) -> list[str]:
    """The lines of the metadata header. What is not known is left out, never guessed."""
    lines = _licence(story.model.licence)
    if _HUB_ID.fullmatch(base := story.model.base or story.model.name):
        lines.append(f"base_model: {quoted(base)}")
    task = story.data.words.hub_task
    lines += [f"library_name: {quoted(story.model.loading)}"] if story.model.loading else []
    lines += [f"pipeline_tag: {task}", "tags:", "- whet", f"- {task}", f"- {story.task}"]
    results = [line for judgement in story.judgements for line in _result(story, judgement)]
    if results:
        lines += ["model-index:", f"- name: {quoted(story.name)}", "  results:", *results]
    return lines


def _licence(name: str) -> list[str]:
    if not name:
        return []
    if name.lower() in _LICENCES:
        return [f"license: {name.lower()}"]
    return ["license: other", f"license_name: {quoted(name)}"]


def _result(story: Story, judgement: Judgement) -> list[str]:
    """One test set as the hub's model-index has it; a value that is not a number is left out."""
    found = [score for score in judgement.scores.get("model", ()) if score.value == score.value]
    if not found:
        return []
    data = f"{story.data.source} ({judgement.test})"
    task = story.data.words.hub_task
    top = ["  - task:", f"      type: {task}", f"      name: {task.replace('-', ' ').title()}"]
    top += ["    dataset:", f"      type: {quoted(story.data.source)}", f"      name: {quoted(data)}", "    metrics:"]
    return [*top, *(line for score in found for line in _metric(score))]


def _metric(score: Score) -> list[str]:
    kind = _HUB_METRICS.get(score.metric, score.metric)
    name = f"{metric_name(score.metric)}, 95% interval {interval_text(score)}"
    return [f"    - type: {quoted(kind)}", f"      value: {score.value:.6f}", f"      name: {quoted(name)}"]


def _verdict(judgement: Judgement) -> str:
    sentence, test = markdown(judgement.verdict.sentence), markdown(judgement.test)
    return f"> **{sentence}**\n>\n> On {test}. {markdown(compared(judgement))}"


def _about(story: Story) -> str:
    data, labels = story.data, [markdown(label) for label in story.labels[:_SHOWN_LABELS]]
    more = f" and {len(story.labels) - _SHOWN_LABELS} more" if len(story.labels) > _SHOWN_LABELS else ""
    rows = joined([f"{count(amount)} {markdown(name)}" for name, amount in data.rows.items()])
    inputs = joined([markdown(name) for name in data.columns.inputs])
    targets = joined([markdown(name) for name in data.columns.target])
    lines = [
        "## What it is",
        "",
        f"{story.task.capitalize()} of {data.words.many}: from {inputs} to {targets}.",
        f"Fine-tuned from {_beginning(story)}.",
        f"Method: {markdown(story.method)}{'; ' + markdown(story.summary) if story.summary else '.'}",
        f"Rows: {rows}. {markdown(data.split) if data.split else ''}".rstrip(),
    ]
    return "\n".join([*lines, "", f"Labels: {' · '.join(labels)}{more}"] if labels else lines)


def _beginning(story: Story) -> str:
    """The pre-trained model, or the earlier run and what that began with."""
    name, base = markdown(story.model.name), markdown(story.model.base)
    return f"the run {name}, which began with {base}" if story.model.base else name


def _scores(judgement: Judgement) -> str:
    """Scores of every learner with intervals, then the paired differences."""
    metrics = list(dict.fromkeys(score.metric for found in judgement.scores.values() for score in found))
    if not metrics:
        return ""
    title = f"## Scores on {markdown(judgement.test)} ({plural(judgement.rows, 'row')}), with 95% intervals"
    head = ["learner", *(metric_name(metric) for metric in metrics)]
    lines = [_row(head), _row(["---"] * len(head))]
    for learner, found in judgement.scores.items():
        cells = {score.metric: f"{score_text(score)} ({interval_text(score)})" for score in found}
        lines.append(_row([markdown(learner_name(learner)), *(cells.get(metric, "–") for metric in metrics)]))
    differences = [
        f"- against {markdown(learner_name(one.baseline))}: {gained(middle, one.relative)} "
        f"({points(low)} to {points(high)})"
        for one in judgement.comparisons
        for middle, low, high in [in_points(one)]
    ]
    more = ["", f"{_paired(judgement)}:", "", *differences] if differences else []
    return "\n".join([title, "", *lines, *more])


def _paired(judgement: Judgement) -> str:
    relative = any(one.relative for one in judgement.comparisons)
    base = ", in % of the best baseline's, more is better" if relative else ""
    return f"Paired difference in {metric_name(judgement.metric)}{base}"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _limits(story: Story) -> str:
    judged = [markdown(note) for one in story.judgements for note in (*one.notes, *one.dropped)]
    sentences = [
        "It was judged on rows like its test rows; on other data its scores are unknown.",
        plain_limit(story),
        "Whoever loads it without whet decides at 0.5 a label; the tuned thresholds are in `whet.json`."
        if story.task == "multi-label"
        else "",
        "No numbers here: the run had no test rows." if not story.judgements else "",
        *dict.fromkeys([*judged, *(markdown(note) for note in story.notes)]),
    ]
    return "## Limits\n\n" + "\n".join(f"- {sentence}" for sentence in sentences if sentence)


def _use(story: Story) -> str:
    blocks = [
        ("From the command line:", "sh", commands(story)),
        ("From Python:", "python", python_with_whet(story)),
        (f"Without whet, through {story.model.loading}:", "python", clean(story.model.python)),
    ]
    parts = [f"{lead}\n\n{_fenced(kind, code)}" for lead, kind, code in blocks if code]
    return "## How to use it\n\n" + "\n\n".join(parts)


def _fenced(kind: str, code: str) -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{code}\n{fence}"


def _provenance(story: Story) -> str:
    model = story.model
    facts = {
        "made": f"{day(story.created)}, in {duration(story.seconds)}",
        "command": story.command,
        "started from": model.name,
        "revision": model.revision,
        "weights sha256": model.sha256,
        "licence of the base model": model.licence or "not stated",
        **{markdown(name): account_words(account, how=True) for name, account in story.accounts.items()},
        "versions": ", ".join(f"{name} {version}" for name, version in story.versions.items()),
    }
    lines = [f"- {name}: {markdown(text)}" for name, text in facts.items() if text]
    return "\n".join(["## Where it comes from", "", *lines])

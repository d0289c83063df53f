"""How do I use it, where does it come from, and what do the words on this page mean?"""

import shlex

from whet.data.kind import in_python
from whet.report.markup import Html, details, join, paragraphs, tag
from whet.report.story import Story
from whet.report.words import account_words, clean, count, day, duration, short_count

_SMALL_PRINT = (
    "Better: against every baseline, the lower 95% bound of the paired difference is above zero. Not better: against "
    "the named baseline, the upper 95% bound is below one point. Cannot tell: neither; the number of rows says how "
    "large a test set would settle a difference of one point.",
    "On the test rows of an earlier run the question is what was lost against its model. Forgets: the upper 95% bound "
    "is below zero. Not worse: a loss of one point is ruled out.",
    "One point is 0.01 of the metric, or 1% of the best baseline's error for numbers. Differences are turned so that "
    "more is always better.",
    "A 95% interval comes from a procedure that covers the true value in about 95 of 100 test sets drawn like this "
    "one. It knows nothing of data that differ from the test rows. Shares of rows have Wilson intervals, other scores "
    "come from resampling rows, by class or by group.",
    "Differences are paired: both learners answered the same rows, so their interval is narrower than the two "
    "separate intervals suggest. Look at the differences, not at whether two intervals overlap.",
    "McNemar's p is shown for those who ask for it and decides nothing. With many classes some intervals in the table "
    "of classes miss the truth by chance.",
    "Test targets were read once, after training, choosing and stopping were done.",
)


def commands(story: Story) -> str:
    """What to type to predict and to judge again."""
    run, example = shlex.quote(clean(story.path)), " ".join(map(shell_quoted, story.data.words.example))
    return f"whet predict {run} {example}\nwhet predict {run} new_rows.csv\nwhet evaluate {run} more_test_rows.csv"


def shell_quoted(text: str) -> str:
    """In double quotes where need be: every shell knows them."""
    return text if shlex.quote(text) == text else f'"{text}"'


def python_with_whet(story: Story) -> str:
    example = in_python(story.data.words.example)
    return f"import whet\n\nmodel = whet.load({clean(story.path)!r})\nmodel.predict([{example}])"


def use(story: Story) -> Html:
    """The ways to call the model, ready to copy."""
    limit, plain = plain_limit(story), story.model.python
    return join(
        [
            tag("h3", "From the command line"),
            tag("pre", commands(story)),
            tag("h3", "From Python"),
            tag("pre", python_with_whet(story)),
            tag("h3", f"Without whet, through {story.model.loading}") if plain else None,
            tag("pre", clean(plain)) if plain else None,
            tag("p", limit, class_="lead") if limit else None,
        ]
    )


def plain_limit(story: Story) -> str:
    """What plain loading loses against ``whet.load``, empty when nothing."""
    if story.model.window is None:
        return ""
    return (
        f"Called so, without whet, the model reads the first {count(story.model.window)} tokens of a text and no more; "
        "whet reads longer texts in overlapping windows and pools them."
    )


def provenance(story: Story) -> Html:
    """What the model was made from, on what, with what."""
    model = story.model
    facts = {
        "run": story.name,
        "made": f"{day(story.created)}, in {duration(story.seconds)}",
        "command": story.command,
        "started from": model.name,
        "revision": model.revision,
        "weights sha256": model.sha256,
        "licence": model.licence or "not stated: ask its makers before you ship",
        "parameters": short_count(model.parameters) if model.parameters else "",
        "machine": story.machine,
        **{name: account_words(account, how=True) for name, account in story.accounts.items()},
        **{f"seen by {name}": command for name, command in story.views.items()},
        "versions": " · ".join(f"{name} {version}" for name, version in story.versions.items()),
    }
    items = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items() if value]
    return tag("dl", *items, class_="facts")


def small_print() -> Html:
    return details("How to read this page", paragraphs(_SMALL_PRINT), open_=True)

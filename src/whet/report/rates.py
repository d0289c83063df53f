"""What did the search for a learning rate find? Its words, and its picture as a page of its own."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from whet import catalog
from whet.learners.rate_finder import RateCurve
from whet.report.html import page, write_page
from whet.report.markup import tag
from whet.report.svg import rate_plot

ENDS = {
    "rates": "all of them were tried",
    "grew": "there the loss had grown fourfold",
    "not finite": "above them the loss is no number any more",
}


def facts(curve: RateCurve) -> dict[str, str]:
    """What was tried and found, in a few words each."""
    method, optimizer = catalog.title("method", curve.method), catalog.title("optimizer", curve.optimizer)
    tried = f"{curve.rates[0]:g} to {curve.rates[-1]:.2g} in {len(curve.rates)} steps of {curve.batch_size} rows"
    return {
        "tried": f"{method} with {optimizer}: {tried}; {ENDS[curve.ended]}",
        "suggested": f"{curve.suggestion:g}, a tenth of the rate with the lowest loss ({curve.lowest:.2g})",
        "steepest": f"{curve.steepest:.2g}, where the loss fell fastest",
        "default": f"{curve.usual:g}, what {method} takes with {optimizer} if no rate is named",
    }


def record(curve: RateCurve) -> dict[str, Any]:
    """The curve and what it says, for machines."""
    found = {"suggestion": curve.suggestion, "steepest": curve.steepest, "lowest": curve.lowest, "fell": curve.fell}
    return asdict(curve) | {"smoothed": curve.smoothed} | found


def meaning(curve: RateCurve) -> str:
    """How the picture is read, and how far it can be trusted."""
    if not curve.fell:
        return (
            "The loss hardly fell at any rate: the head that steps start from fits these rows about as well as a "
            "hundred steps do. The suggestion says little here; keep the default."
        )
    return (
        "Where the line is flat steps are too small to matter; where it falls they learn; past its lowest point they "
        "spoil the weights. A rate that is held for a whole fit must stay well below that point. It is a guess from a "
        "hundred steps: compare it with the default by validation loss."
    )


def write_rates(curve: RateCurve, path: Path) -> Path:
    """The picture with its words as one file that needs no network."""
    return write_page(render_rates(curve), path)


def render_rates(curve: RateCurve) -> str:
    """The page."""
    method = catalog.title("method", curve.method)
    losses = list(zip(curve.rates, curve.losses, strict=True))
    smoothed = list(zip(curve.rates, curve.smoothed, strict=True))
    marks = [("suggested", curve.suggestion, "zero"), ("default", curve.usual, "mark")]
    words = f"Loss over learning rate, lowest at {curve.lowest:.2g}."
    caption = tag("figcaption", f"Loss of each batch, and smoothed, while the rate rises ({curve.stage})")
    figure = tag("figure", caption, rate_plot(losses, smoothed, marks, words))
    said = facts(curve) | {"use": f"--set training.learning_rate={curve.suggestion:g}"}
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", text)) for name, text in said.items()]
    found = tag("div", tag("table", tag("tbody", *rows)), class_="scroll")
    header = tag("header", tag("span", "whet", class_="brand"), tag("h1", f"Learning rates for {method}"))
    parts = (tag("p", meaning(curve), class_="lead"), figure, found)
    return page(f"Learning rates for {method}: whet", tag("main", header, tag("section", *parts)))

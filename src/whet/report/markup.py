"""How does text become HTML without ever becoming markup? Every piece goes through ``tag``.

``tag`` escapes each child that is not already ``Html``, and only ``tag`` and ``join`` make ``Html`` (besides
literals in this package), so that a label called ``<script>`` is shown and never run.
"""

import html
from collections.abc import Iterable

from whet.report.words import clean, one_line

LONGEST_LABEL = 120
VOID = frozenset({"meta", "link", "br", "hr", "col", "img"})


class Html(str):
    """Text that is markup already; must not be made from anything a user wrote."""

    __slots__ = ()


Child = str | None


def escape(text: str) -> Html:
    """``text`` as HTML shows it, letter by letter."""
    return text if isinstance(text, Html) else Html(html.escape(clean(text)))


def join(parts: Iterable[Child], between: str = "") -> Html:
    """Parts one after the other, each escaped unless it is Html; None is left out."""
    return Html(between.join(escape(part) for part in parts if part is not None))


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """One element. ``class_`` means class, ``aria_label`` aria-label; True is a bare attribute, None and False none."""
    opening = "".join([f"<{name}", *(_attribute(key, value) for key, value in attributes.items()), ">"])
    return Html(opening) if name in VOID else Html(f"{opening}{join(children)}</{name}>")


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if name == "viewbox":
        name = "viewBox"
    return f" {name}" if value is True else f' {name}="{html.escape(clean(str(value)))}"'


def label(text: str) -> Html:
    """A class name or other short text of a user, kept apart from the direction of the text around it."""
    short = one_line(text, LONGEST_LABEL)
    return tag("bdi", short, class_="label", title=text if short.endswith("…") else None)


def thumbnail(address: str, words: str) -> Html:
    """A small picture that lies in the page itself; nothing where its address leads elsewhere."""
    if not address.startswith("data:image/"):
        return Html("")
    return tag("img", src=address, alt=one_line(words, LONGEST_LABEL), class_="small", loading="lazy")


def table(caption: str, head: Iterable[Child], rows: Iterable[Html], kind: str = "") -> Html:
    """A table that scrolls sideways inside its own box. ``rows`` are ready ``tr`` elements."""
    top = tag("thead", tag("tr", *(cell if isinstance(cell, Html) else header(cell) for cell in head)))
    inner = tag("table", tag("caption", caption), top, tag("tbody", *rows), class_=kind or None)
    return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)


def header(text: Child, kind: str = "") -> Html:
    return tag("th", text, scope="col", class_=kind or None)


def number_cell(text: Child, sort: float | None = None, note: Child = None) -> Html:
    """A right-aligned cell; ``sort`` is the value behind the text, ``note`` stands small below it."""
    small = tag("small", note) if note is not None else None
    return tag("td", text, small, class_="num", data_sort=None if sort is None else f"{sort:.6g}")


def section(anchor: str, title: str, *children: Child) -> Html:
    """One chapter of the page; left out (empty) when it has nothing to say."""
    kept = [child for child in children if child]
    return tag("section", tag("h2", title), *kept, id=anchor) if kept else Html("")


def details(summary: Child, *children: Child, open_: bool = False) -> Html:
    return tag("details", tag("summary", summary), *children, open=open_)


def paragraphs(sentences: Iterable[str], kind: str = "") -> Html:
    return join(tag("p", sentence, class_=kind or None) for sentence in sentences)

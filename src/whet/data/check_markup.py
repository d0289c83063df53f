"""Do texts hold HTML, control characters, or characters that were damaged on the way?"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whet.data.checks import CheckView, examples, part_of, quote
from whet.data.rows import Finding, Rows

_LARGEST_SAMPLE = 200_000
_ELEMENTS = (
    "a|abbr|address|article|aside|b|big|blockquote|body|br|button|canvas|caption|center|cite|code|col|dd|del|details|"
    "div|dl|dt|em|embed|fieldset|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|label|li|"
    "link|main|mark|meta|nav|object|ol|option|p|path|picture|pre|q|s|script|section|select|small|source|span|strike|"
    "strong|style|sub|summary|sup|svg|table|tbody|td|template|textarea|tfoot|th|thead|title|tr|tt|u|ul|video"
)
_ATTRIBUTES = r"(\s+([\w:-]+\s*=[^<>]*|async|checked|defer|disabled|hidden|nowrap|open|readonly|required|selected))?"
# A row's end, or the next one's beginning, where the other is the text: 'oops,b⏎fine"' or 'oops⏎a,fine"'. Prose has a
# blank after its commas.
_RUN_TOGETHER = r'^[^"]*([^"\s][,;\t|][^"\s][^"]*\n|\n[^"\s][^"\n]*[,;\t|][^"\s])[^"]*"$'


@dataclass(frozen=True)
class Blemish:
    """A pattern (RE2) in texts, looked for only where ``hint`` occurs (a text, or None for any non-ASCII text)."""

    name: str
    hint: str | None
    pattern: str
    fix: str


_BLEMISHES = (
    Blemish("HTML tags", "<", rf"(?i)<(/?({_ELEMENTS}){_ATTRIBUTES}\s*/?>|!--|!DOCTYPE\s|\?xml\s)", "strip the tags"),
    Blemish("HTML entities", "&", r"&(amp|lt|gt|quot|apos|nbsp|#\d{1,6}|#x[0-9a-fA-F]{1,5});", "unescape them"),
    Blemish("control characters", "", r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]", "remove them"),
    Blemish("the replacement character U+FFFD", "\ufffd", "\ufffd", "export the texts again in their true encoding"),
    Blemish(
        "mojibake (UTF-8 read as another encoding)",
        None,
        r"Ã[\x{80}-\x{BF}ƒ‚„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â€[\x{80}-\x{BF}™œ“”˜¦¢\x{9d}]|Â[\x{A0}-\x{BF}]|ï»¿",
        "export the texts again as UTF-8",
    ),
    Blemish(
        "what looks like the rest of a file's row and the next one, as where a quotation mark is not closed",
        '"',
        _RUN_TOGETHER,
        "close it in the file",
    ),
    Blemish("invisible characters", None, "[\u200b\u200e\u200f\u2060\ufeff]", "remove them"),
)


def check_markup(view: CheckView) -> list[Finding]:
    """Count blemished rows of each split."""
    return [finding for split in view.splits for finding in _blemishes(view, split, view.splits[split])]


def _blemishes(view: CheckView, split: str, rows: Rows) -> list[Finding]:
    whole = len(rows)
    step = max(1, -(-whole // _LARGEST_SAMPLE))
    looked_at = rows.select(np.arange(0, whole, step)) if step > 1 else rows
    hits: dict[str, list[int]] = {blemish.name: [] for blemish in _BLEMISHES}
    start = 0
    for batch in looked_at.batches(view.columns.inputs, size=16384):
        for column in batch.columns:
            for blemish in _BLEMISHES:
                hits[blemish.name] += (start + _matches(column, blemish)).tolist()
        start += batch.num_rows
    found = []
    for blemish in _BLEMISHES:
        positions = np.unique(np.array(hits[blemish.name], dtype=np.int64))
        if len(positions):
            found.append(_finding(view, split, looked_at, whole, blemish, positions))
    return found


def _matches(column: pa.Array, blemish: Blemish) -> np.ndarray:
    """Positions of texts that hold the blemish. A cheap test first leaves few texts for the pattern."""
    if blemish.hint is None:
        likely = pc.invert(pc.string_is_ascii(column))
    elif blemish.hint:
        likely = pc.match_substring(column, blemish.hint)
    else:
        likely = pc.is_valid(column)
    places = np.flatnonzero(pc.fill_null(likely, False).to_numpy(zero_copy_only=False))
    if not len(places):
        return places
    matched = pc.match_substring_regex(column.take(pa.array(places)), blemish.pattern)
    return np.asarray(places[pc.fill_null(matched, False).to_numpy(zero_copy_only=False)])


def _finding(
    view: CheckView,
    split: str,
    rows: Rows,
    whole: int,
    blemish: Blemish,
    positions: np.ndarray,
) -> Finding:
    sampled = "" if len(rows) == whole else f" looked at, of {whole:,}"
    hold = "holds" if len(positions) == 1 else "hold"
    return Finding(
        check="markup",
        level="info" if blemish.name.startswith("HTML") else "warning",
        message=f"{len(positions):,} of {len(rows):,} rows of {split}{sampled} {hold} {blemish.name}, such as "
        f"{quote(rows, int(positions[0]), view.columns)}.",
        where=rows.place(examples(rows, positions)[0]),
        fix=f"{blemish.fix}, or leave it if new rows will look the same",
        count=len(positions),
        row_ids=examples(rows, positions),
        part=part_of(split),
    )

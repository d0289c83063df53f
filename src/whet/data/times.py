"""When was each row? Dates and numbers of the usual kinds become seconds or plain numbers to sort by."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whet.data.columns import missing_mask
from whet.data.rows import Finding, Rows
from whet.data.tables import is_number, is_text
from whet.errors import DataError

_DAYS = (
    ("%Y/%m/%d", "year/month/day"),
    ("%d/%m/%Y", "day/month/year"),
    ("%m/%d/%Y", "month/day/year"),
    ("%d.%m.%Y", "day.month.year"),
    ("%d-%m-%Y", "day-month-year"),
    ("%m-%d-%Y", "month-day-year"),
    ("%d %b %Y", "day month year"),
    ("%b %d, %Y", "month day, year"),
    ("%a %b %d %Y", "weekday month day year"),
)
_SHORT_YEAR = "two-digit year"
_SHORT_DAYS = (
    *((day.replace("%Y", "%y"), spelled.replace("year", _SHORT_YEAR)) for day, spelled in _DAYS if day[:2] != "%Y"),
    *((f"%y{mark}%m{mark}%d", f"{_SHORT_YEAR}{mark}month{mark}day") for mark in "/-."),
)
_MONTH = "month.year"
_HOURS = ("", " %H:%M", " %H:%M:%S", " %H.%M", " %H.%M.%S", ", %H:%M")
Parse = Callable[[pa.Array], np.ndarray[Any, Any]]


def parse_times(rows: Rows, name: str) -> tuple[np.ndarray[Any, Any], list[Finding]]:
    """The time of every row, to sort by.

    Args:
        name: A column of numbers, dates, timestamps, or text that holds one of these: ISO 8601, or day, month and
            year in a form that fits every row. Years of two digits are those from 1969 to 2068.

    Returns:
        (N,) float64, in seconds for dates, as they are for numbers; and what was assumed about the form.

    Raises:
        DataError: a row has no time, or one that does not read (the first such row is named).
    """
    kind = rows.table.schema.field(name).type
    forms = _text_forms() if is_text(kind) else {"": _typed}
    if not (is_text(kind) or is_number(kind) or pa.types.is_temporal(kind)):
        raise DataError(
            f"The time column {name!r} holds values of type {kind}.",
            where=f"{rows.source}, column {name!r}",
            fix="name a column of dates or numbers",
        )
    left, reached, stuck = dict(forms), -1, ""
    start = 0
    for batch in rows.batches([name], size=16384):
        column = batch.column(0)
        _refuse_missing(column, rows, name, start)
        for form, parse in list(left.items()):
            bad = np.flatnonzero(np.isnan(parse(column)))
            if len(bad):
                del left[form]
                if start + bad[0] > reached:
                    reached, stuck = start + int(bad[0]), str(column[int(bad[0])].as_py())
        if not left:
            break
        start += batch.num_rows
    if not left:
        raise DataError(
            f"The time {stuck[:60]!r} cannot be read in the same way as those before it."
            if reached
            else f"The column {name!r} holds no times: it begins with {stuck[:60]!r}.",
            where=rows.place(int(rows.ids[reached]), name),
            fix="write dates as 2024-03-31 or 2024-03-31T18:30:00, or give plain numbers",
        )
    form, times = _likeliest(left, rows, name)
    if form == _MONTH:
        _refuse_odd_months(times, rows, name)
    return times, _doubt(list(left), form, rows, name)


def _likeliest(left: dict[str, Parse], rows: Rows, name: str) -> tuple[str, np.ndarray[Any, Any]]:
    """The form to take of those that read every row, and the times by it.

    It is the first, but with years of two digits the one by which the rows lie closest together: days taken for years
    would spread them over decades.
    """
    form = next(iter(left))
    times = _all_times(left[form], rows, name)
    for other in list(left)[1:] if _SHORT_YEAR in form else []:
        found = _all_times(left[other], rows, name)
        if np.ptp(found) < np.ptp(times):
            form, times = other, found
    return form, times


def _all_times(parse: Parse, rows: Rows, name: str) -> np.ndarray[Any, Any]:
    times = np.empty(len(rows), dtype=np.float64)
    start = 0
    for batch in rows.batches([name], size=16384):
        times[start : start + batch.num_rows] = parse(batch.column(0))
        start += batch.num_rows
    return times


def _text_forms() -> dict[str, Parse]:
    """Ways to read a text as a time, the safest first."""
    forms: dict[str, Parse] = {_MONTH: _month, "a number": _number, "ISO 8601": _iso}
    for day, spelled in (*_DAYS, *_SHORT_DAYS):
        for hour in _HOURS:
            forms[spelled + hour.replace("%", "")] = _by_pattern(day + hour)
    return forms


def _typed(column: pa.Array) -> np.ndarray[Any, Any]:
    if pa.types.is_time(column.type) or pa.types.is_duration(column.type):
        column = pc.cast(column, pa.int32() if column.type.bit_width == 32 else pa.int64())
    if pa.types.is_temporal(column.type):
        column = pc.cast(pc.cast(column, pa.timestamp("us", getattr(column.type, "tz", None)), safe=False), pa.int64())
        return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)) / 1e6
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def _number(column: pa.Array) -> np.ndarray[Any, Any]:
    trimmed = pc.ascii_trim_whitespace(column)
    numeric = pc.match_substring_regex(trimmed, r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
    kept = pc.cast(pc.if_else(numeric, trimmed, None), pa.float64())
    return np.asarray(pc.fill_null(kept, float("nan")).to_numpy(zero_copy_only=False))


def _iso(column: pa.Array) -> np.ndarray[Any, Any]:
    return np.array([_iso_seconds(text) for text in column.to_pylist()], dtype=np.float64)


def _iso_seconds(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return float("nan")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _month(column: pa.Array) -> np.ndarray[Any, Any]:
    """11.2023, which as a number would come after 01.2024. What is written so, but is no month, is infinite."""
    shaped = pc.match_substring_regex(pc.ascii_trim_whitespace(column), r"^\d{1,2}\.[12]\d{3}$")
    times = _by_pattern("%m.%Y")(column)
    return np.where(shaped.to_numpy(zero_copy_only=False), np.where(np.isnan(times), np.inf, times), np.nan)


def _by_pattern(pattern: str) -> Parse:
    # strptime takes fewer digits for a year than there should be, and 95 for the year 95
    years = pattern.replace(".", r"\.").replace("%Y", r"\s*\d{4}").replace("%y", r"\s*\d{2}")
    shape = "^" + re.sub("%[a-zA-Z]", r"\\s*\\w+", years).replace(" ", r"\s*") + "$"

    def parse(column: pa.Array) -> np.ndarray[Any, Any]:
        trimmed = pc.ascii_trim_whitespace(column)
        shaped = pc.if_else(pc.match_substring_regex(trimmed, shape), trimmed, None)
        found = pc.cast(pc.strptime(shaped, format=pattern, unit="s", error_is_null=True), pa.int64())
        return np.asarray(pc.fill_null(pc.cast(found, pa.float64()), float("nan")).to_numpy(zero_copy_only=False))

    return parse


def _refuse_missing(column: pa.Array, rows: Rows, name: str, start: int) -> None:
    missing = np.flatnonzero(missing_mask(column))
    if len(missing):
        raise DataError(
            "A row has no time.",
            where=rows.place(int(rows.ids[start + missing[0]]), name),
            fix="fill in the time, remove the row, or split without a time column",
        )


def _refuse_odd_months(times: np.ndarray[Any, Any], rows: Rows, name: str) -> None:
    odd = np.flatnonzero(np.isinf(times))
    if len(odd):
        text = rows.select(odd[:1]).values(name)[0]
        raise DataError(
            f"The times in {name!r} look like months and years, but {text[:60]!r} has no month from 1 to 12.",
            where=rows.place(int(rows.ids[odd[0]]), name),
            fix="write months as 2024-03-01; if they are numbers, write them with more digits after the point",
        )


def _doubt(left: list[str], form: str, rows: Rows, name: str) -> list[Finding]:
    """Say which form was taken when dates read in two ways, and which century."""
    where, fix = f"{rows.source}, column {name!r}", "write dates as 2024-03-31 to be sure"
    found = []
    if len(left) > 1 and left[0] not in ("a number", "ISO 8601"):
        message = f"The dates read in several ways ({' or '.join(left)}); they are taken as {form}."
        found.append(Finding("split", "warning", message, where, fix))
    if _SHORT_YEAR in form:
        message = f"Years of two digits in {name!r} are taken as those from 1969 to 2068."
        found.append(Finding("split", "info", message, where, fix))
    return found

"""Numbers of rows and groups can be compared between tables."""

import numpy as np
import pyarrow as pa

from whet.data.fingerprints import group_codes, row_units
from whet.data.rows import Columns, Rows

COLUMNS = Columns(("text",), ("label",), group="who")


def rows_of(texts: list[str], groups: list[str | None]) -> Rows:
    return Rows(pa.table({"text": texts, "label": ["a"] * len(texts), "who": groups}), "rows")


def test_groups_of_two_tables_have_one_number_and_rows_without_a_group_one_each() -> None:
    train = rows_of(["one", "two", "three", "four"], ["ann", None, "", "bob"])
    valid = rows_of(["five", "six", "seven", "eight"], ["bob", None, None, "cid"])
    first, second = row_units(train, COLUMNS), row_units(valid, COLUMNS)
    assert first[3] == second[0]
    assert len(np.unique(np.concatenate([first, second]))) == 7


def test_a_row_without_a_group_keeps_its_number_when_rows_are_selected() -> None:
    rows = rows_of(["same", "same", "three"], [None, None, "ann"])
    whole = group_codes(rows, COLUMNS)
    assert len(np.unique(whole)) == 3
    np.testing.assert_array_equal(group_codes(rows.select(np.array([1, 2])), COLUMNS), whole[1:])


def test_a_group_has_one_number_as_a_whole_number_a_decimal_and_a_text() -> None:
    numbers = [10_000_000_000.0, 7.0, float("nan"), float("nan")]
    kinds = ([10_000_000_000, 7, None, None], numbers, ["10000000000", "7", None, None])
    codes = [group_codes(Rows(pa.table({"text": list("abcd"), "who": who}), "rows"), COLUMNS) for who in kinds]
    for found in codes[1:]:
        np.testing.assert_array_equal(found, codes[0])
    assert len(np.unique(codes[0])) == 4

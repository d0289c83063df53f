"""Laws of the split: nothing straddles, classes keep their shares, and test targets are out of reach."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data import targets
from whet.data.checks import run_checks, view_of
from whet.data.clean import clean
from whet.data.fingerprints import normal
from whet.data.read import read
from whet.data.rows import Columns
from whet.data.split import Split, SplitSettings, split_rows
from whet.errors import ConfigError, DataError

COLUMNS = Columns(("text",), ("label",))


def made(count: int, classes: int = 5, copies: int = 0) -> list[dict[str, Any]]:
    """Rows in classes of unequal sizes; the last ``copies`` repeat earlier texts in other dress."""
    random = np.random.Generator(np.random.PCG64(count))
    labels = random.geometric(0.4, size=count) % classes
    rows = [
        {
            "text": f"Text number {i}",
            "label": f"c{labels[i]}",
            "group": f"g{i // 20}",
            "when": f"2024-{1 + i * 12 // count:02d}-03",
        }
        for i in range(count)
    ]
    for i in range(copies):
        rows[count - 1 - i]["text"] = f"  TEXT  number\u00a0{i}"
    return rows


def split_of(rows: Any, folder: Path, columns: Columns = COLUMNS, **options: Any) -> Split:
    return split_rows(clean(read(rows), columns), columns, SplitSettings(**options), sealed_folder=folder / "sealed")


def sides(split: Split) -> list[Any]:
    valid = [] if split.valid is None else [split.valid]
    return [split.train, *valid, *(test.rows for test in split.tests.values())]


def test_sides_are_disjoint_and_cover_all_rows(tmp_path: Path) -> None:
    parts = sides(split_of(made(500, copies=60), tmp_path))
    ids = np.concatenate([part.ids for part in parts])
    assert sorted(ids.tolist()) == list(range(500))
    assert [len(part) for part in parts] == [340, 60, 100]


@settings(max_examples=25, deadline=None)
@given(st.integers(20, 300), st.integers(0, 60), st.integers(0, 5))
def test_equal_texts_never_straddle(tmp_path_factory: Any, count: int, copies: int, seed: int) -> None:
    rows = made(count, copies=min(copies, count // 2))
    split = split_of(rows, tmp_path_factory.mktemp("split"), seed=seed)
    seen = [{normal(text) for text in part.values("text")} for part in sides(split)]
    assert all(one.isdisjoint(other) for one, other in combinations(seen, 2))


def test_rows_that_cannot_give_validation_rows_are_split_without(tmp_path: Path) -> None:
    rows = made(40)
    for position, row in enumerate(rows):
        row["group"] = "one" if position < 30 else "two"
    split = split_of(rows, tmp_path, Columns(("text",), ("label",), group="group"))
    assert split.valid is None
    assert len(split.train) == 30
    assert "No valid rows can be held out" in split.findings[-1].message


@pytest.mark.parametrize("time", [None, "when"])
def test_groups_never_straddle_and_neither_do_texts(tmp_path: Path, time: str | None) -> None:
    columns = Columns(("text",), ("label",), group="group", time=time)
    split = split_of(made(800, copies=40), tmp_path, columns)
    for name in ("group", "text"):
        seen = [{normal(value) for value in part.values(name)} for part in sides(split)]
        assert all(one.isdisjoint(other) for one, other in combinations(seen, 2))
    units = split.tests["test"].units
    assert units is not None
    assert len(np.unique(units)) == len(set(split.tests["test"].rows.values("group")))


def test_group_splits_meet_the_share_and_balance_classes(tmp_path: Path) -> None:
    split = split_of(made(2000), tmp_path, Columns(("text",), ("label",), group="group"))
    test = split.tests["test"]
    assert abs(len(test.rows) / 2000 - 0.2) < 0.03
    truth = targets.open_targets(test.sealed).column("label").to_pylist()
    everything = [row["label"] for row in made(2000)]
    for label in set(everything):
        assert abs(truth.count(label) / everything.count(label) - 0.2) < 0.1


@settings(max_examples=25, deadline=None)
@given(st.integers(30, 400), st.integers(2, 8), st.integers(0, 3))
def test_every_class_has_its_share_within_one_row(tmp_path_factory: Any, count: int, classes: int, seed: int) -> None:
    rows = made(count, classes)
    split = split_of(rows, tmp_path_factory.mktemp("split"), seed=seed)
    held = targets.open_targets(split.tests["test"].sealed).column("label").to_pylist()
    everything = [row["label"] for row in rows]
    for label in set(everything):
        assert abs(held.count(label) - 0.2 * everything.count(label)) <= 1
    assert set(split.train.values("label")) == set(everything)


def test_the_split_depends_on_seed_and_content_not_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = made(300, copies=20)
    mixed = [rows[i] for i in np.random.Generator(np.random.PCG64(1)).permutation(300)]
    texts = [
        [sorted(part.values("text")) for part in sides(split_of(source, tmp_path, seed=seed))]
        for source, seed in ((rows, 0), (rows, 0), (mixed, 0), (rows, 1))
    ]
    assert texts[0] == texts[1] == texts[2]
    assert texts[0] != texts[3]


def test_a_time_split_tests_on_the_latest_rows(tmp_path: Path) -> None:
    split = split_of(made(600), tmp_path, Columns(("text",), ("label",), time="when"))
    times = [part.values("when") for part in sides(split)]
    assert max(times[0]) < min(times[1])
    assert max(times[1]) < min(times[2])


@pytest.mark.parametrize(
    "dates",
    [
        ["3", "20", "100"],
        ["2024-01-05", "2024-01-05T10:00:00", "2024-02-01"],
        ["24-02-2015 11.35", "25-02-2015 09.00", "01-03-2015 00.00"],
        ["31/01/2024", "02/02/2024", "01/03/2024"],
        ["01/31/2024", "02/02/2024", "03/01/2024"],
        ["01/06/95", "30/12/99", "28/06/24"],
        ["12/31/99", "01/06/00", "06/28/24 "],
        ["01.06.68 10:00", "02.06.68 09:30", "13.06.68 00:00"],
        ["95-06-01", "99-12-30", "24-06-28"],
        ["24-06-13", "24-06-28", "24-07-01"],
        ["Jun 01, 95", "Dec 30, 99", "Jan 1, 24"],
        ["12.2022", "1.2023", "02.2023"],
        ["9.1000", "11.1000", "100.0"],
        ["0.1234", "3.1415", "12.0000"],
    ],
)
def test_dates_of_many_forms_sort_in_time(dates: list[str]) -> None:
    from whet.data.times import parse_times

    times, _ = parse_times(read([{"when": date} for date in dates]).train, "when")
    assert times.tolist() == sorted(times.tolist())
    assert len(set(times.tolist())) == 3


def test_dates_that_read_two_ways_are_said() -> None:
    from whet.data.times import parse_times

    _, findings = parse_times(read([{"when": "01/02/2024"}, {"when": "03/04/2024"}]).train, "when")
    assert "day/month/year or month/day/year" in findings[0].message


def test_years_of_two_digits_are_said_and_a_day_is_not_taken_for_one() -> None:
    from whet.data.times import parse_times

    rows = [{"when": f"{day:02d}/{month:02d}/{year}"} for year in (19, 24) for month in (1, 12) for day in (2, 28)]
    times, findings = parse_times(read(rows).train, "when")
    assert times.tolist() == sorted(times.tolist())
    assert "taken as day/month/two-digit year" in findings[0].message
    assert "1969 to 2068" in findings[1].message


@pytest.mark.parametrize("date", ["01/06/5", "01/06/995", "1/6/20245", "13.2023", "00.2023"])
def test_years_of_other_lengths_and_odd_months_are_refused(date: str) -> None:
    from whet.data.times import parse_times

    first = "11.2023" if date.endswith(".2023") else "01/06/1995"
    for rows in ([first, date], [date, first]):
        with pytest.raises(DataError, match="when"):
            parse_times(read([{"when": text} for text in rows]).train, "when")


def test_months_written_with_a_point_split_in_time(tmp_path: Path) -> None:
    rows = made(400)
    for place, row in enumerate(rows):
        row["when"] = ["11.2023", "12.2023", "01.2024", "02.2024"][place // 100]
    split = split_of(rows, tmp_path, Columns(("text",), ("label",), time="when"))
    assert set(split.tests["test"].rows.values("when")) == {"02.2024"}
    assert any("month.year or a number" in finding.message for finding in split.findings)


def test_test_targets_are_out_of_reach_until_opened(tmp_path: Path) -> None:
    before = targets.opens()
    split = split_of(made(200), tmp_path)
    test = split.tests["test"]
    run_checks(view_of(split, COLUMNS, "classification"))
    assert "label" not in test.rows.names
    assert targets.opens() == before
    table = targets.open_targets(test.sealed)
    assert targets.opens() == before + 1
    assert table.column(targets.ROW_ID).to_pylist() == test.rows.ids.tolist()
    truth = made(200)
    assert table.column("label").to_pylist() == [truth[i]["label"] for i in test.rows.ids]


def test_given_test_rows_stay_and_leaks_are_named(tmp_path: Path) -> None:
    rows = made(100)
    sources = clean(read(rows, tests={"new": [rows[3], {**rows[4], "text": "unheard of"}, rows[5]]}), COLUMNS)
    split = split_rows(sources, COLUMNS, SplitSettings(), sealed_folder=tmp_path)
    assert list(split.tests) == ["new"]
    assert split.tests["new"].leaked.tolist() == [0, 2]
    assert len(split.tests["new"].rows) == 3
    assert any("2 of 3 rows of new" in finding.message for finding in split.findings)
    assert len(split.train) == 85


@pytest.mark.parametrize("target", [("labels",), ("joined",), ("a", "b", "c")])
def test_every_way_to_write_several_labels_gives_one_split(tmp_path: Path, target: tuple[str, ...]) -> None:
    random = np.random.Generator(np.random.PCG64(3))
    on = random.random((300, 3)) < (0.5, 0.2, 0.05)
    rows = []
    for i, flags in enumerate(on):
        labels = [name for name, flag in zip("cba", flags[::-1], strict=True) if flag]
        rows.append({"text": f"t{i}", "labels": labels, "joined": "; ".join(labels) or ";"})
        rows[-1].update({name: int(flag) for name, flag in zip("abc", flags, strict=True)})
    split = split_of(rows, tmp_path, Columns(("text",), target), separator=";" if target == ("joined",) else None)
    held = split.tests["test"].rows.ids
    assert abs(on[held, 2].sum() - 0.2 * on[:, 2].sum()) <= 1
    reference = split_of(rows, tmp_path, Columns(("text",), ("labels",)))
    assert held.tolist() == reference.tests["test"].rows.ids.tolist()


def test_regression_targets_are_spread_over_the_sides(tmp_path: Path) -> None:
    values = np.random.Generator(np.random.PCG64(5)).lognormal(size=400)
    rows = [{"text": f"t{i}", "label": float(value)} for i, value in enumerate(values)]
    split = split_of(rows, tmp_path, regression=True)
    held = targets.open_targets(split.tests["test"].sealed).column("label").to_numpy()
    assert abs((held > np.median(values)).mean() - 0.5) < 0.02
    with pytest.raises(DataError, match="same number"):
        split_of([{"text": f"t{i}", "label": 1.0} for i in range(30)], tmp_path, regression=True)


def test_keys_are_equal_for_equal_targets_of_every_type() -> None:
    sources = [["1", "0", None], [1, 0, None], [1.0, 0.0, None], pa.array([1, 0, None], pa.int8())]
    for values in sources:
        keys = targets.target_keys(read(pa.table({"label": values})).train, COLUMNS)
        assert keys.keys == ["0", "1"]
        assert keys.codes.tolist() == [1, 0, -1]


def test_fractions_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="test_fraction"):
        SplitSettings(test_fraction=0.9)
    with pytest.raises(ConfigError, match="valid_fraction"):
        SplitSettings(valid_fraction=-0.1)

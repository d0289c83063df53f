"""Numbers, durations and texts are said one way."""

import math

import pytest

from whet.report.svg import axis, near_axis, ticks
from whet.report.words import day, duration, number, one_line, percent, points, size


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.6, "1 min"), (200, "3 min 20 s"), (3600, "1 h 0 min"), (None, "–")],
)
def test_durations(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_sizes_counts_and_shares() -> None:
    assert [size(0), size(1536), size(2**30 * 11)] == ["0 B", "1.5 KiB", "11 GiB"]
    assert [number(12345.6), number(3.14159), number(math.inf), number(2.0)] == ["12,346", "3.142", "–", "2"]
    assert [percent(0.9312), points(-0.34), points(math.nan)] == ["93.1%", "−0.3", "–"]


def test_texts_are_shortened_and_freed_of_control_signs() -> None:
    assert one_line("a\n\tb\x1b[2J") == "a b\ufffd[2J"
    assert one_line(" \n") == "(empty)"
    assert len(one_line("x" * 900, 50)) == 50


def test_a_time_that_is_no_iso_time_is_shown_as_it_came() -> None:
    assert day("yesterday") == "yesterday"
    assert day("2025-05-03T14:02:11+00:00") == "3 May 2025, 14:02"


def test_ticks_are_round_and_inside() -> None:
    found = ticks(0.0, 1.0, 5)
    assert found == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert axis([]).ticks
    assert axis([3.0, 3.0]).low < 3.0 < axis([3.0, 3.0]).high


def test_one_far_baseline_does_not_squeeze_the_others() -> None:
    shares = near_axis(98.0, [(90.0, 100.0), (20.0, 60.0)], 30.0, (0.0, 100.0))
    assert (shares.low >= 0, shares.high, max(shares.ticks)) == (True, 100.0, 100.0)
    scale = near_axis(0.0, [(0.5, 3.0), (60.0, 70.0)], 1.5)
    assert scale.high < 20
    assert scale.outside(66.0) == 1

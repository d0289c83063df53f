"""Public data sets as they come: what is read, what is found, what is refused."""

from pathlib import Path

import numpy as np
import pytest

from whet.data.checks import CheckView, run_checks, view_of
from whet.data.clean import clean
from whet.data.read import read
from whet.data.rows import Columns, Finding
from whet.data.split import SplitSettings, split_rows
from whet.errors import DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def place(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs the data set {name}, which is not on this machine")
    return path


def walk(name: str, text: str, target: str, folder: Path) -> tuple[CheckView, list[Finding]]:
    columns = Columns((text,), (target,))
    sources = clean(read(place(name)), columns)
    split = split_rows(sources, columns, SplitSettings(), sealed_folder=folder)
    view = view_of(split, columns, "classification")
    return view, [*sources.findings, *split.findings, *run_checks(view)]


def told(findings: list[Finding], check: str) -> str:
    return "\n".join(finding.message for finding in findings if finding.check == check)


def test_banking77_keeps_its_test_rows_and_names_seven_leaks(tmp_path: Path) -> None:
    view, findings = walk("banking77", "text", "category", tmp_path)
    assert {name: len(rows) for name, rows in view.splits.items()} == {"train": 8503, "valid": 1500, "test": 3080}
    assert len(view.tests["test"].leaked) == 7
    assert "7 of 3,080 rows of test" in told(findings, "leakage")
    keys = view.keys("valid")
    share = keys.counts() / (keys.counts() + view.keys("train").counts())
    assert np.abs(share - 0.15).max() < 0.02


def test_sms_spam_has_many_copies_and_none_straddles(tmp_path: Path) -> None:
    view, findings = walk("sms_spam/sms_spam.csv", "text", "type", tmp_path)
    assert "repeat the text of an earlier row" in told(findings, "duplicates")
    assert "HTML entities" in told(findings, "markup")
    sides = [set(view.hashes(name).tolist()) for name in view.splits]
    assert not (sides[0] & sides[1]) | (sides[0] & sides[2]) | (sides[1] & sides[2])


def test_trec_fine_labels_give_the_coarse_ones_away(tmp_path: Path) -> None:
    _, findings = walk("trec", "text", "label", tmp_path)
    assert "'fine_label'" in told(findings, "leaking-columns")


def test_airline_reasons_give_the_sentiment_away_and_ids_do_not(tmp_path: Path) -> None:
    _, findings = walk("airline_tweets/Tweets.csv", "text", "airline_sentiment", tmp_path)
    assert "'negativereason' gives the class 'negative' away" in told(findings, "leaking-columns")
    assert "tweet_id" not in told(findings, "leaking-columns")
    assert "different targets" in told(findings, "conflicts")


def test_sst2_comes_with_all_three_parts(tmp_path: Path) -> None:
    view, _ = walk("sst2", "sentence", "label", tmp_path)
    assert {name: len(rows) for name, rows in view.splits.items()} == {"train": 6920, "valid": 872, "test": 1821}


def test_raw_trec_is_latin_and_said_to_be(tmp_path: Path) -> None:
    raw = place("trec/raw/TREC.train").read_bytes()
    path = tmp_path / "trec.tsv"
    lines = [line.replace(b" ", b"\t", 1) for line in raw.splitlines()]
    path.write_bytes(b"\n".join([b"label\ttext", *lines]))
    sources = read(path)
    assert len(sources.train) == 5452
    assert any("cp1252" in finding.message for finding in sources.findings)


def test_pairs_without_a_header_are_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match="put a line with column names above it"):
        read(place("medical_question_pairs/mqp.csv"))


def test_an_unknown_text_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"\.csv, \.tsv"):
        read(place("financial_phrasebank/Sentences_50Agree.txt"))

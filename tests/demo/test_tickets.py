"""Does the demo file hold what it says: 8 intents and the blemishes of real data? Is it in the wheel?"""

import csv
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path

import pytest

from whet.demo import tickets_path

COLUMNS = ["ticket_id", "created", "channel", "text", "intent"]
INTENTS = {"account_change", "billing", "bug", "cancel", "feature_request", "login", "refund", "shipping"}
WRONG = {  # ticket -> the intent it should have
    "T-5214": "billing",
    "T-4386": "refund",
    "T-5723": "shipping",
    "T-5856": "login",
    "T-5243": "shipping",
    "T-4320": "bug",
    "T-5947": "cancel",
    "T-4809": "refund",
    "T-5839": "login",
    "T-5015": "billing",
    "T-4625": "account_change",
    "T-4232": "shipping",
    "T-4969": "billing",
}
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tickets() -> list[dict[str, str]]:
    with tickets_path().open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        rows = list(reader)
    assert reader.fieldnames == COLUMNS
    return rows


def test_every_row_is_complete_and_in_order_of_time(tickets: list[dict[str, str]]) -> None:
    assert len(tickets) == 629
    assert all(list(row) == COLUMNS and None not in row.values() for row in tickets)
    assert len({row["ticket_id"] for row in tickets}) == len(tickets)
    created = [datetime.fromisoformat(row["created"]) for row in tickets]
    assert all(earlier <= later for earlier, later in pairwise(created))


def test_there_are_eight_intents_and_the_commonest_has_six_times_the_rarest(tickets: list[dict[str, str]]) -> None:
    counts = Counter(row["intent"] for row in tickets if row["intent"])
    assert set(counts) == INTENTS
    assert (max(counts.values()), min(counts.values())) == (158, 26)


def test_two_intents_and_one_text_are_missing(tickets: list[dict[str, str]]) -> None:
    assert sum(not row["intent"] for row in tickets) == 2
    assert sum(not row["text"].strip() for row in tickets) == 1


def test_about_two_percent_of_the_intents_are_wrong(tickets: list[dict[str, str]]) -> None:
    found = {row["ticket_id"]: row["intent"] for row in tickets}
    assert all(found[ticket] and found[ticket] != true for ticket, true in WRONG.items())
    assert 0.015 < len(WRONG) / len(tickets) < 0.025


def test_seven_texts_come_twice_and_one_of_them_under_two_intents(tickets: list[dict[str, str]]) -> None:
    intents: dict[str, list[str]] = {}
    for row in tickets:
        intents.setdefault(row["text"], []).append(row["intent"])
    repeated = [found for found in intents.values() if len(found) > 1]
    assert [len(found) for found in repeated] == [2] * 7
    assert sum(len(set(found)) > 1 for found in repeated) == 1


def test_nine_pairs_nearly_agree(tickets: list[dict[str, str]]) -> None:
    texts = sorted({row["text"] for row in tickets if row["text"]})
    grams = [trigrams(text) for text in texts]
    pairs = [
        (first, second)
        for index, first in enumerate(grams)
        for second in grams[index + 1 :]
        if len(first & second) > 0.6 * len(first | second)
    ]
    assert len(pairs) == 9


def test_texts_hold_markup_emoji_line_breaks_commas_and_one_of_great_length(tickets: list[dict[str, str]]) -> None:
    texts = [row["text"] for row in tickets]
    assert sum(bool(re.search(r"</?[a-z]+[^>]*>", text)) for text in texts) == 8
    assert sum(bool(re.search("[\u2600-\u27bf\U0001f300-\U0001faff]", text)) for text in texts) >= 20
    assert sum("\n" in text for text in texts) >= 10
    assert sum("," in text for text in texts) >= 200
    lengths = sorted(len(text.split()) for text in texts)
    assert lengths[-1] > 1500 > 200 > lengths[-2]


def test_no_text_holds_an_address_a_link_or_a_telephone_number(tickets: list[dict[str, str]]) -> None:
    private = re.compile(r"\S@\S|https?://|www\.|\+\d{6,}|\b0\d{3,4}[ /-]\d{4,}")
    assert [row["ticket_id"] for row in tickets if private.search(row["text"])] == []


def test_the_wheel_holds_the_tickets_and_the_type_marker(tmp_path: Path) -> None:
    pytest.importorskip("build", reason="the build package is not installed")
    if setuptools_major() < 77:
        pytest.skip("building without isolation needs setuptools 77 or newer in this environment")
    if not (REPOSITORY / "pyproject.toml").is_file():
        pytest.skip("not a checkout")
    source = tmp_path / "source"
    shutil.copytree(REPOSITORY / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {"whet/demo/tickets.csv", "whet/py.typed"} <= set(archive.namelist())
        assert archive.read("whet/demo/tickets.csv") == tickets_path().read_bytes()


def trigrams(text: str) -> set[str]:
    letters = re.sub(r"\W+", " ", re.sub(r"<[^>]*>", " ", text)).strip().lower()
    return {letters[start : start + 3] for start in range(len(letters) - 2)}


def setuptools_major() -> int:
    try:
        return int(version("setuptools").partition(".")[0])
    except PackageNotFoundError:
        return 0

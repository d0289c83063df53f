"""Is energy measured without a network, into the run folder alone, and said to be an estimate where it is one?"""

import json
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

pytest.importorskip("codecarbon")

from whet.errors import ConfigError
from whet.report.words import account_words
from whet.testing import tiny_events
from whet.trackers.energy import NAME, WORLD, Energy, Used, how_known, read_used
from whet.trackers.tracker import opened


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose settings ask codecarbon to tell the world, and no network."""

    def refuse(*_: object) -> None:
        raise AssertionError("energy asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".codecarbon.config").write_text(
        "[codecarbon]\nsave_to_api=true\nsave_to_file=true\nemissions_endpoint=http://example.org\n"
        "co2_signal_api_token=abc\nelectricitymaps_api_token=abc\ncloud_provider=gcp\npue=3\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CODECARBON_OUTPUT_METHODS", "csv,api")
    monkeypatch.chdir(home)
    return home


def measured(folder: Path, tracker: Energy, first: int = 1, upto: int = 12) -> Used | None:
    with opened([tracker], folder) as (observer,):
        for event in tiny_events(first, upto):
            observer(event)
            sum(range(100_000))
    return read_used(folder / NAME)


def test_nothing_is_asked_of_a_network_and_nothing_is_written_elsewhere(tmp_path: Path, alone: Path) -> None:
    used = measured(tmp_path / "tracks", Energy())
    assert used is not None
    assert used.kwh > 0
    assert used.country == WORLD
    assert used.grams == pytest.approx(used.kwh * 475, rel=1e-6)
    assert [path.name for path in alone.iterdir()] == [".codecarbon.config"]
    assert [path.name for path in (tmp_path / "tracks").iterdir()] == [NAME]


def test_a_country_has_its_own_carbon(tmp_path: Path) -> None:
    used = measured(tmp_path / "tracks", Energy(country="FRA"))
    assert used is not None
    assert used.country == "France"
    assert used.grams_per_kwh < 475


def test_a_resumed_run_adds_to_what_it_had_used(tmp_path: Path) -> None:
    first = measured(tmp_path / "tracks", Energy(), upto=9)
    second = measured(tmp_path / "tracks", Energy(), first=9)
    assert first is not None
    assert second is not None
    assert second.kwh > first.kwh
    assert (first.parts, second.parts) == (1, 2)


def test_figures_without_counters_are_called_estimated(tmp_path: Path) -> None:
    used = measured(tmp_path / "tracks", Energy())
    assert used is not None
    assert used.estimated == ("no counters" in used.how)

    class CPU:
        _mode = "intel_rapl"

    class Machine:
        _hardware = (CPU(),)

    assert not how_known(Machine())[0]
    CPU._mode = "a way that is not known"
    assert how_known(Machine())[0]


@pytest.mark.parametrize(("country", "near"), [("DE", "DEU"), ("Germany", "DEU"), ("FRX", "FRA"), ("zz9", "FRA")])
def test_an_unknown_country_is_refused_with_the_nearest(country: str, near: str) -> None:
    with pytest.raises(ConfigError, match="no country") as caught:
        Energy(country).require()
    assert near in caught.value.fix


def test_a_torn_record_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(json.dumps({"kwh": 1.0})[:-3])
    assert read_used(tmp_path / NAME) is None
    assert Energy().account(tmp_path) is None


def test_the_account_is_what_was_written_with_electricity_and_carbon_in_words(tmp_path: Path) -> None:
    used = Used(kwh=0.00041, grams=0.1947, estimated=True, how="from processor time", country=WORLD,
                grams_per_kwh=475.0, seconds=60.0)  # fmt: skip
    (tmp_path / NAME).write_text(json.dumps(asdict(used)))
    account = Energy().account(tmp_path)
    assert account is not None
    assert account_words(account) == "0.41 Wh, 0.19 g CO2e (world average), estimated"
    assert (account.how, account.record) == ("from processor time", asdict(used))
    far = replace(used, kwh=1.23, grams=584.0, country="France", estimated=False).account()
    assert account_words(far) == "1.2 kWh, 584 g CO2e (electricity of France)"


def test_nothing_is_printed_from_the_import_on(alone: Path) -> None:
    """In a process of its own: codecarbon sets up its log as it is imported."""
    code = "from pathlib import Path\nfrom whet.trackers.energy import Energy\nEnergy().open(Path('e')).close()\n"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")

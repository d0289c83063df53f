"""Energy and carbon of a run, through codecarbon, without a network: ``tracks/energy.json``.

The figures are those of the codecarbon package. Counted is this process with its children, from the end of planning to
the verdict. Where the processor's counters cannot be read, as in
most containers and virtual machines, codecarbon estimates from processor time and a power rating, and memory it always
estimates: the record says which it was.
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from whet.atomic import written
from whet.errors import ConfigError, MachineError, closest
from whet.trackers.tracker import Account, Figure, require_package
from whet.training.events import Checkpointed, Event, Judged, Stopped

NAME = "energy.json"
WORLD = "world average"
COUNTED = {"intel_rapl", "intel_power_gadget", "windows_emi"}
"""How codecarbon reads a processor's own counters; its other ways are estimates."""
MEASURE_SECONDS = 5.0


@dataclass(frozen=True)
class Energy:
    """Measure or estimate electricity, and the carbon of generating it.

    Args:
        country: Three-letter ISO code of the country whose electricity is used, such as FRA; None takes the world's
            average, 475 g CO2e a kWh in codecarbon's tables.
    """

    country: str | None = None

    def require(self) -> None:
        require_package("codecarbon", "The tracker energy", "energy")
        if self.country is not None:
            require_country(self.country)

    def open(self, folder: Path) -> "Meter":
        return Meter(folder / NAME, self.country)

    def view(self, folder: Path) -> str:
        return ""

    def account(self, folder: Path) -> Account | None:
        used = read_used(folder / NAME)
        return None if used is None else used.account()


@dataclass(frozen=True, kw_only=True)
class Used:
    """What a run has used so far.

    Args:
        kwh: Electricity. grams: CO2 equivalents of generating it.
        estimated: Whether no hardware counter of the processor was read; how: the same in words.
        country: Whose electricity. grams_per_kwh: its carbon intensity.
        seconds: Measured time. parts: 1, and one more for each time the run was resumed.
    """

    kwh: float
    grams: float
    estimated: bool
    how: str
    country: str
    grams_per_kwh: float
    seconds: float
    parts: int = 1

    def account(self) -> Account:
        """The same as it is told."""
        figures = (
            Figure(name="energy", words=watt_hours(self.kwh)),
            Figure(name="carbon", words=carbon_words(self.grams, self.country)),
        )
        return Account(figures=figures, estimated=self.estimated, how=self.how, record=asdict(self))


class Meter:
    """Measures from now on; writes what was used at every checkpoint, at the end of a stage and after judging."""

    def __init__(self, path: Path, country: str | None) -> None:
        self.path = path
        self.before = read_used(path)
        self._figures = Figures()
        self._tracker = start(self._figures, country, path.parent)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Checkpointed | Stopped | Judged):
            self._tracker.flush()
            self._write()

    def close(self) -> None:
        self._tracker.stop()

    def _write(self) -> None:
        total = self._figures.total
        if total is None:
            raise MachineError("codecarbon gave no figures.", where=str(self.path), fix="leave --track energy out")
        before = self.before
        kwh, grams = float(total.energy_consumed), 1000 * float(total.emissions)
        estimated, how = how_known(self._tracker)
        used = Used(
            kwh=kwh + (before.kwh if before else 0.0),
            grams=grams + (before.grams if before else 0.0),
            estimated=estimated or (before is not None and before.estimated),
            how=how,
            country=str(total.country_name or WORLD),
            grams_per_kwh=grams / kwh if kwh > 0 else 0.0,
            seconds=float(total.duration) + (before.seconds if before else 0.0),
            parts=1 + (before.parts if before else 0),
        )
        with written(self.path) as beside:
            beside.write_text(json.dumps(asdict(used), indent=1) + "\n", encoding="utf-8")


class Figures:
    """Where codecarbon hands its totals; it calls these four and no other way out is open."""

    total: Any = None

    def out(self, total: Any, delta: Any) -> None:
        self.total = total

    def live_out(self, total: Any, delta: Any) -> None:
        self.total = total

    def task_out(self, data: Any, experiment_name: str) -> None:
        """No tasks are named."""

    def exit(self) -> None:
        """Nothing is held."""


def start(figures: Figures, country: str | None, folder: Path) -> Any:
    """A running tracker that asks no network and writes no file.

    Whatever could send or write is named here, for codecarbon takes what is not named from files in the user's home
    and from variables of the environment.
    """
    from codecarbon import OfflineEmissionsTracker

    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # after its import, which sets a level of its own
    tracker = OfflineEmissionsTracker(
        country_iso_code=country,
        country_2letter_iso_code=None,
        region=None,
        cloud_provider=None,
        cloud_region=None,
        electricitymaps_api_token="",
        emissions_endpoint=None,
        output_methods=[],
        output_handlers=[figures],
        output_dir=str(folder),
        tracking_mode="process",
        measure_power_secs=MEASURE_SECONDS,
        allow_multiple_runs=True,
        force_carbon_intensity_g_co2e_kwh=None,
        pue=1.0,
        log_level="critical",
        logger_preamble="",
    )
    tracker.start()
    return tracker


def how_known(tracker: Any) -> tuple[bool, str]:
    """Whether the processor's part is an estimate, and where the figures come from in words."""
    kinds = {type(part).__name__: part for part in tracker._hardware}
    processor = kinds.get("CPU")
    counted = getattr(processor, "_mode", "") in COUNTED or "AppleSiliconChip" in kinds or "Raspberry" in kinds
    if counted:
        how = "the processor by its counters, which count the whole machine; memory estimated"
    else:
        how = "from processor time, a power rating and memory: no counters of the processor are readable"
    return not counted, how + ("; GPUs by their counters, which count the whole device" if "GPU" in kinds else "")


def require_country(country: str) -> None:
    """Refuse a country that codecarbon's tables lack.

    Raises:
        ConfigError: with the nearest codes.
    """
    from codecarbon.input import DataSource

    table = DataSource().get_global_energy_mix_data()
    if country in table:
        return
    names = {str(entry["country_name"]): code for code, entry in table.items()}
    codes = [code for code in table if code.startswith(country.upper())] or closest(country, list(table))
    near = [names[name] for name in closest(country, list(names))] if len(country) > 3 else codes[:3]
    raise ConfigError(
        f"There is no country {country!r} in codecarbon's tables.",
        where="track.country",
        fix="use " + " or ".join(near or ["a three-letter ISO code such as FRA"]),
    )


def read_used(path: Path) -> Used | None:
    """What an earlier part of the run wrote; None where it wrote nothing whole."""
    try:
        return Used(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def watt_hours(kwh: float) -> str:
    """'0.41 Wh' below a tenth of a kilowatt-hour, '1.2 kWh' from there."""
    return f"{kwh:.2g} kWh" if kwh >= 0.1 else f"{1000 * kwh:.2g} Wh"


def carbon_words(grams: float, country: str) -> str:
    """'0.19 g CO2e (electricity of France)'."""
    whose = country if country == WORLD else f"electricity of {country}"
    return f"{grams:.2g} g CO2e ({whose})" if grams < 100 else f"{grams:,.0f} g CO2e ({whose})"

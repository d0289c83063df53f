"""Compiled steps are planned only where a trial says that they pay back, or where somebody wants them."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from test_laws_of_runs import PLAIN, write_topics
from whet import api
from whet.errors import ConfigError
from whet.plan import Plan


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with 120 rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    write_topics(tmp_path / "rows.csv")
    torch.compiler.reset()
    return tmp_path


def planned(model: Path, *settings: str, method: str = "full") -> Plan:
    return api.plan("rows.csv", "topic", model=model, method=method, settings=[*PLAIN, *settings]).plan


def test_a_short_run_is_not_worth_a_trial(here: Path, tiny_model: Path) -> None:
    plan = planned(tiny_model, "training.epochs=2")
    assert plan.machinery.compile == "off"
    assert "compiling" not in plan.brief()


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler, such as g++")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_long_run_is_tried_both_ways_and_the_shorter_forecast_stays(here: Path, tiny_model: Path) -> None:
    plan = planned(tiny_model, "training.epochs=1000000")
    plain, compiled = (float(one.replace(",", "")) for one in re.findall(r"([\d,]+) s w", plan.brief()["compiling"]))
    assert plan.machinery.compile == ("on" if compiled < plain else "off")
    assert plan.forecast.seconds - plan.forecast.parts["before"] == pytest.approx(min(plain, compiled), abs=1)
    plan.write(here / "plan.yaml")
    assert Plan.read(here / "plan.yaml") == plan


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_long_run_that_cannot_be_compiled_says_why(
    here: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(here / "no-such-compiler"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(here / "no-such-compiler"),))
    plan = planned(tiny_model, "training.epochs=1000000")
    assert plan.machinery.compile == "off"
    assert "not compiled" in plan.brief()["compiling"]
    with pytest.raises(ConfigError, match="cannot be compiled") as raised:
        planned(tiny_model, "training.epochs=2", "machinery.compile=on")
    assert "C++ compiler" in raised.value.args[2]


def test_compiling_is_refused_where_nothing_steps_and_where_it_is_no_word(here: Path, tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to compile"):
        planned(tiny_model, "machinery.compile=on", method="probe")
    with pytest.raises(ConfigError, match="compile"):
        planned(tiny_model, "machinery.compile=maybe")

"""``whet find-rate``: what it refuses, and the command it hands on."""

import subprocess
import sys
from pathlib import Path

import pytest

import whet
from whet.cli import with_rate
from whet.errors import ConfigError


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("auto", "auto climbs several methods"), (None, "auto climbs several methods"),
        ("probe", "no learning rate: its head is solved"), ("fool", "no method named 'fool'"),
    ],
)  # fmt: skip
def test_a_method_without_gradient_steps_is_refused_before_rows_are_read(method: str | None, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        whet.find_rate("no-such-file.csv", "label", method=method)


def test_the_command_ends_with_two_and_no_traceback() -> None:
    words = [sys.executable, "-m", "whet", "find-rate", "rows.csv", "--target", "label"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("ConfigError: auto climbs several methods")
    assert "Traceback" not in done.stderr


def test_the_command_to_use_is_the_one_that_was_typed_with_the_rate() -> None:
    typed = "find-rate a.csv --target b --out p.html --set training.learning_rate=3 --method full --json --set seed=1"
    wanted = "whet finetune a.csv --target b --method full --set seed=1 --set training.learning_rate=0.00016"
    assert with_rate(typed.split(), 1.6e-4) == wanted
    assert with_rate(["find-rate", "a b.csv", "--out=p", "--set=training.learning_rate=1"], 0.1) == (
        "whet finetune 'a b.csv' --set training.learning_rate=0.1"
    )


def test_rows_in_memory_give_a_curve_and_a_picture(tiny_model: Path, tmp_path: Path) -> None:
    from whet.testing import tiny_rows

    rows, _ = tiny_rows("classification", 60)
    curve = whet.find_rate(
        rows.table.to_pylist(), "target", text="text", model=tiny_model, method="full", out=tmp_path / "rates.html",
        settings=["machinery.threads=1", "machinery.precision=float32", "machinery.training_precision=float32",
                  "backbone.attention=eager", "cache=off"],
    )  # fmt: skip
    assert curve.rates[0] <= curve.suggestion < curve.rates[-1]
    assert f"{curve.suggestion:g}" in (tmp_path / "rates.html").read_text(encoding="utf-8")

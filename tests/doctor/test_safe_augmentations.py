"""Which augmentations are safe is asked of the rows."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageDraw

import whet
from pictures import tiny_image_model
from plain import PLAIN
from whet.doctor.augmentations import Answer, holm, judged
from whet.modalities.augmentations import Blur, Colour, Crop, Erase, Flip, Noise, Rotate

pytest.importorskip("kornia")
ASKED = (Crop(), Flip(), Rotate(), Colour(), Blur(), Noise(), Erase())


def rows_of(rises: list[float], number: int = 4000, spread: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Losses of rows as they are and changed, with these mean rises as shares of the loss."""
    draw = np.random.default_rng(0)
    plain = draw.gamma(2.0, 0.5, number)
    views = [plain + rise * plain.mean() + draw.normal(0, spread, number) for rise in rises]
    return np.stack([plain, *views]), np.arange(number)


def test_what_surely_rises_little_is_safe_and_what_surely_rises_much_is_not() -> None:
    answers = judged(ASKED, *rows_of([0.0, 0.5, 0.03, -0.1, 0.01, 0.0, 0.2]))
    assert [one.verdict for one in answers] == ["safe", "harmful", "harmful", "safe", "safe", "safe", "harmful"]
    assert [one.kept for one in answers] == [True, False, False, True, True, True, False]
    assert all(one.least < one.rise < one.most for one in answers)


def test_what_cannot_be_told_is_kept_only_if_it_is_mild() -> None:
    answers = judged(ASKED, *rows_of([0.0] * 7, number=40, spread=2.0))
    assert {one.verdict for one in answers} == {"open"}
    assert [type(one.augmentation) for one in answers if one.kept] == [Crop, Colour]


def test_a_mild_one_that_harms_is_dropped() -> None:
    (answer,) = judged((Crop(),), *rows_of([0.4]))
    assert not answer.kept


def test_copies_of_a_row_count_once() -> None:
    losses, units = rows_of([0.03], number=60, spread=0.2)
    (alone,) = judged((Flip(),), losses, units)
    (copied,) = judged((Flip(),), np.tile(losses, 50), np.tile(units, 50))
    assert copied.most - copied.least == pytest.approx(alone.most - alone.least, rel=1e-6)


def test_holm_rejects_none_after_the_first_that_stands() -> None:
    assert holm(np.array([0.011, 0.9, 0.02, 0.0])).tolist() == [True, False, True, True]
    assert holm(np.array([0.03, 0.03])).tolist() == [False, False]
    assert holm(np.array([0.02, 0.03])).tolist() == [True, True]


def test_truth_is_wrongly_called_safe_no_more_often_than_stated() -> None:
    """Rises of just what is tolerated: called safe in at most 5% of repetitions."""
    draw, wrong = np.random.default_rng(1), 0
    for _ in range(400):
        plain = draw.gamma(2.0, 0.5, 300)
        views = [plain + 0.02 * plain.mean() + draw.normal(0, 0.1, 300) for _ in range(5)]
        answers: tuple[Answer, ...] = judged(ASKED[:5], np.stack([plain, *views]), np.arange(300))
        wrong += any(one.verdict == "safe" for one in answers)
    assert wrong <= 400 * 0.05 + 3 * np.sqrt(400 * 0.05 * 0.95)


def arrows(folder: Path, each: int) -> Path:
    """Pictures whose class is where an arrow points: mirrored, they are of the other class."""
    draw = np.random.default_rng(0)
    for name in ("left", "right"):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            image = Picture.fromarray(draw.integers(0, 60, (32, 32, 3), np.uint8))
            top, tip, back = int(draw.integers(10, 22)), *((4, 26) if name == "left" else (28, 6))
            colour = tuple(int(one) for one in draw.integers(150, 255, 3))
            ImageDraw.Draw(image).polygon([(tip, top), (back, top - 9), (back, top + 9)], fill=colour)
            image.save(folder / name / f"{number:03d}.png")
    return folder


def test_arrows_lose_their_mirror_and_the_report_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = tiny_image_model(tmp_path / "net")
    settings = (*PLAIN, "training.epochs=2")
    result = whet.finetune(
        arrows(tmp_path / "arrows", 150), model=model, method="top-layers", settings=settings, out="run"
    )
    assert "flip" not in [one["name"] for one in result.story.plan["training"]["augment"]]
    assert "Left out: " in (tmp_path / "run" / "report.html").read_text()
    (found,) = [one for one in result.story.data.findings if one.check == "augmentations"]
    assert "flip (loss +" in found.message

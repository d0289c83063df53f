"""Blank, long and mixed pictures are found, and marks that give the class away; a sound set has none of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from pictures import SHAPES, class_folders, picture
from whet.data.checks import CheckView
from whet.data.read import read
from whet.data.rows import Columns, Finding
from whet.modalities.check_pictures import check_pictures
from whet.modalities.image import Image


def found(folder: Path) -> list[Finding]:
    columns = Columns(("image",), ("label",), modality=Image())
    return check_pictures(CheckView({"train": read(folder).train}, columns, {}, "classification"))


def test_a_sound_set_has_no_findings(tmp_path: Path) -> None:
    assert found(class_folders(tmp_path / "photos")) == []


def test_blank_and_long_pictures_are_counted_and_placed(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photos")
    Pillow.new("RGB", (32, 32), (200, 0, 0)).save(folder / "disc" / "zz.png")
    picture("disc", 1).resize((160, 32)).save(folder / "square" / "zz.png")
    blank, long = (next(one for one in found(folder) if word in one.message) for word in ("blank", "one side"))
    assert (blank.count, long.count) == (1, 1)
    rows = read(folder).train.values("image")
    assert [rows[one.row_ids[0]] for one in (blank, long)] == ["disc/zz.png", "square/zz.png"]


def test_sizes_that_differ_much_are_said(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photos")
    for number, shape in enumerate(SHAPES * 3):
        picture(shape, number, 256).save(folder / shape / f"large{number}.png")
    (one,) = [one for one in found(folder) if "different sizes, from 32 x 32 to 256 x 256" in one.message]
    assert one.level == "info"


def framed(image: Pillow.Image) -> Pillow.Image:
    pixels = np.asarray(image).copy()
    pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:] = 250, 250, 250, 250
    return Pillow.fromarray(pixels)


@pytest.mark.parametrize(
    ("mark", "change"),
    [
        ("The width of a picture", lambda image: image.resize((40, 32))),
        ("The brightness of its border", framed),
    ],
)
def test_a_mark_that_gives_the_class_away_is_told(
    mark: str, change: Callable[[Pillow.Image], Pillow.Image], tmp_path: Path
) -> None:
    folder = class_folders(tmp_path / "photos")
    for path in (folder / "disc").iterdir():
        change(Pillow.open(path)).save(path)
    told = [one for one in found(folder) if "alone tells the class" in one.message]
    assert any(one.message.startswith(mark) and one.level == "warning" for one in told)


def test_the_kind_of_file_is_such_a_mark(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photos")
    for path in list((folder / "cross").iterdir()):
        Pillow.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    assert any(one.message.startswith("The kind of file alone") for one in found(folder))

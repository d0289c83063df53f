"""Pictures of every mode and kind of file become what the model's own processor makes of them; none is lost."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as Pillow

from pictures import SHAPES, class_folders, picture, tiny_image_model
from whet.data.columns import describe_columns
from whet.data.fingerprints import input_hashes
from whet.data.rows import Columns, Rows
from whet.errors import ConfigError, DataError, ModelError
from whet.modalities.glance import glances
from whet.modalities.image import Image
from whet.modalities.image_processor import INPUT, image_processor
from whet.modalities.picture import open_picture
from whet.testing import check_modality

COLUMNS = Columns(("image",), (), modality=Image())


def rows_of(folder: Path, names: list[Any]) -> Rows:
    return Rows(pa.table({"image": pa.array(names)}), "rows.csv", folder=folder)


def saved(folder: Path, name: str, mode: str) -> Path:
    """The same disc in another mode, or kind of file."""
    image = picture("disc", 0)
    path = folder / name
    if mode == "deep":
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
        Pillow.fromarray(grey).save(path)
    elif mode == "turned":
        exif = Pillow.Exif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    elif mode == "animated":
        image.save(path, save_all=True, append_images=[picture("cross", 1)])
    else:
        image.convert(mode).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "told"),
    [
        ("a.png", "L", ()), ("a.png", "1", ()), ("a.png", "P", ()), ("a.png", "RGBA", ("transparent",)),
        ("a.png", "LA", ("transparent",)), ("a.jpg", "CMYK", ()), ("a.tif", "RGB", ()), ("a.tif", "CMYK", ()),
        ("a.webp", "RGB", ()), ("a.bmp", "RGB", ()), ("a.jpg", "turned", ("turned",)),
        ("a.gif", "animated", ("animated",)), ("a.png", "deep", ("deep",)), ("a.tif", "deep", ("deep",)),
    ],
)  # fmt: skip
def test_a_picture_of_any_mode_is_read_and_what_is_odd_is_said(
    tmp_path: Path, name: str, mode: str, told: tuple[str, ...]
) -> None:
    path = saved(tmp_path, name, mode)
    image, seen = open_picture(path)
    assert (image.mode, seen.size, seen.told) == ("RGB", (32, 32), told)
    grey = np.asarray(image.convert("L"), np.float64)
    usual = np.asarray(picture("disc", 0).convert("L"), np.float64)
    usual = np.rot90(usual, -1) if mode == "turned" else usual
    if mode != "1":  # dots of black and white
        assert np.abs(grey - usual).mean() < (25 if mode in ("P", "animated") else 6)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "turned"])
def test_files_are_opened_as_the_transformers_library_opens_them(tmp_path: Path, mode: str) -> None:
    from transformers.image_utils import load_image

    path = saved(tmp_path, "a.jpg" if mode in ("CMYK", "turned") else "a.png", mode)
    np.testing.assert_array_equal(np.asarray(open_picture(path)[0]), np.asarray(load_image(str(path))))


def test_a_file_its_bytes_an_array_and_a_picture_are_the_same_to_a_model(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", "RGB")
    processor = image_processor(tiny_image_model(tmp_path / "model"), pairs=False)
    held = io.BytesIO()
    np.save(held, np.asarray(Pillow.open(path)))
    every = [path, path.read_bytes(), np.asarray(Pillow.open(path)), Pillow.open(path), held.getvalue()]
    found = processor.encode([(Image().given(value),) for value in every]).inputs[INPUT]
    for one in found:
        np.testing.assert_array_equal(one, found[0])


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_pixels_are_what_the_models_own_processor_makes(tmp_path: Path, kind: str) -> None:
    from transformers import AutoImageProcessor

    folder = tiny_image_model(tmp_path / "model", kind)
    processor = image_processor(folder, pairs=False)
    images = [picture(shape, 5, side) for shape, side in zip(SHAPES, (8, 32, 201), strict=True)]
    theirs = AutoImageProcessor.from_pretrained(folder)(images, return_tensors="pt")[INPUT]
    ours = processor.collate(processor.encode([(image,) for image in images]).inputs)[INPUT]
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-5)


def test_a_processor_that_does_more_is_refused(tmp_path: Path) -> None:
    folder = tiny_image_model(tmp_path / "model")
    path = folder / "preprocessor_config.json"
    path.write_text(path.read_text().replace("ViTImageProcessor", "VilaImageProcessor"))
    with pytest.raises(ModelError, match="image processor cannot be used"):
        image_processor(folder, pairs=False)
    path.unlink()
    with pytest.raises(ModelError, match="does not say how pictures become tensors"):
        image_processor(folder, pairs=False)
    with pytest.raises(ConfigError, match="one image a row"):
        image_processor(folder, pairs=True)


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "shapes", 2)
    cells = [str(path) for path in sorted(folder.rglob("*.png"))]
    values = [(Path(cell),) for cell in cells]
    check_modality(Image(root="/"), tiny_image_model(tmp_path / "model"), values, cells)


BROKEN: dict[str, tuple[bytes, str]] = {
    "text.jpg": (b"this is no picture", "it is no image"),
    "empty.png": (b"", "it is no image"),
    "no-frame.gif": (b"GIF89a", "no-frame.gif"),
}


def cut(name: str, share: float) -> bytes:
    held = io.BytesIO()
    picture("disc", 0, 64).save(held, "PNG" if name.endswith("png") else "JPEG")
    return held.getvalue()[: int(len(held.getvalue()) * share)]


def test_what_cannot_be_read_is_named_counted_and_left_out_only_if_told(tmp_path: Path) -> None:
    files = {name: content for name, (content, _) in BROKEN.items()}
    files |= {"cut.jpg": cut("cut.jpg", 0.5), "cut.png": cut("cut.png", 0.5)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    good = saved(tmp_path, "good.png", "RGB").name
    rows = rows_of(tmp_path, [*files, good, "gone.png", None])
    with pytest.raises(DataError, match=r"6 images of 8 cannot be read: .*text.jpg \(it is no image\)") as error:
        Image().admit(rows, "image")
    assert "modality.unreadable=drop" in str(error.value)
    kept, findings = Image(unreadable="drop").admit(rows, "image")
    assert kept.values("image") == [good, None]
    (said,) = [finding for finding in findings if finding.check == "unreadable"]
    assert said.count == 6


def test_a_picture_that_claims_too_many_pixels_is_refused_unopened(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Pillow.new("L", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (200_000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    path.write_bytes(bytes(content))
    (found,) = glances([path])
    assert "200,000 x 200,000 pixels" in getattr(found, "why", "")


def test_files_outside_the_folder_are_refused_and_another_root_can_be_named(tmp_path: Path) -> None:
    saved(tmp_path, "a.png", "RGB")
    (tmp_path / "tables").mkdir()
    for name in ("../a.png", str(tmp_path / "a.png")):
        with pytest.raises(DataError, match="outside"):
            Image().admit(rows_of(tmp_path / "tables", [name]), "image")
    rows, _ = Image(root=str(tmp_path)).admit(rows_of(tmp_path / "tables", ["a.png", "tables/../a.png"]), "image")
    assert len(rows) == 2


def test_equal_files_have_equal_keys_whatever_they_are_called(tmp_path: Path) -> None:
    for name, seed in (("a.png", 0), ("b.png", 0), ("c.png", 1)):
        picture("disc", seed).save(tmp_path / name)
    rows = rows_of(tmp_path, ["a.png", "b.png", "c.png"])
    first, second, third = input_hashes(rows, COLUMNS)
    assert first == second != third


def test_a_smaller_or_recompressed_copy_is_nearly_the_same_and_another_picture_is_not(tmp_path: Path) -> None:
    for number in range(12):
        picture(SHAPES[number % 3], number, 64).save(tmp_path / f"{number}.png")
    picture(SHAPES[1], 4, 64).save(tmp_path / "copy.jpg", quality=60)
    picture(SHAPES[2], 5, 64).resize((48, 48)).save(tmp_path / "small.png")
    Pillow.new("RGB", (64, 64), (9, 9, 9)).save(tmp_path / "flat.png")
    Pillow.new("RGB", (64, 64), (8, 9, 9)).save(tmp_path / "plain.png")
    names = [f"{number}.png" for number in range(12)] + ["copy.jpg", "small.png", "flat.png", "plain.png"]
    rows = rows_of(tmp_path, names)
    near = Image().near([rows], [input_hashes(rows, COLUMNS)], COLUMNS)
    assert {(names[a], names[b]) for _, a, _, b in near.pairs.tolist()} == {
        ("4.png", "copy.jpg"),
        ("5.png", "small.png"),
    }


@pytest.mark.parametrize(
    ("values", "suits"),
    [
        (["a.JPG", "b/c.png"], True),
        (["a.jpg", "b"], False),
        (["words of a text"], False),
        ([b"\xff\xd8\xff\xe0"], True),
    ],
)
def test_columns_of_pictures_are_recognised(values: list[Any], suits: bool) -> None:
    kind = pa.large_binary() if isinstance(values[0], bytes) else pa.string()
    (summary,) = describe_columns(Rows(pa.table({"image": pa.array(values, kind)}), "rows"))
    assert (Image().recognise(summary) > 0) is suits


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(ConfigError, match="refuse"):
        Image(unreadable="ask")  # type: ignore[arg-type]

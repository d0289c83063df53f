"""A folder for each class is a table; what does not belong is said, and nothing outside the folder is ever read."""

import zipfile
from pathlib import Path

import pytest

from pictures import SHAPES, class_folders, picture
from whet.data.read import read
from whet.data.tables import stated_target
from whet.errors import DataError


def test_every_file_is_a_row_of_its_class(tmp_path: Path) -> None:
    found = read(class_folders(tmp_path / "photos", 3))
    assert found.train.values("label") == [shape for shape in sorted(SHAPES) for _ in range(3)]
    assert found.train.values("image")[0] == "cross/000.png"
    assert found.train.folder == tmp_path / "photos"
    assert stated_target(found.train.table.schema) == "label"
    assert (found.valid, found.tests, found.findings) == (None, {}, ())


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "testing")])
def test_train_valid_and_test_folders_are_the_parts(names: tuple[str, str, str], tmp_path: Path) -> None:
    for size, name in zip((4, 2, 3), names, strict=True):
        class_folders(tmp_path / "photos" / name, size)
    found = read(tmp_path / "photos")
    assert found.valid is not None
    assert (len(found.train), len(found.valid), {n: len(t) for n, t in found.tests.items()}) == (12, 6, {"test": 9})


def test_files_lie_as_deep_as_they_like_and_the_topmost_folder_is_the_class(tmp_path: Path) -> None:
    for place in ("cat/2024/may", "cat", "dog/x"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        picture("disc", len(place)).save(tmp_path / place / "1.PNG")
    assert read(tmp_path).train.values("label") == ["cat", "cat", "dog"]


def test_what_does_not_belong_is_counted_and_said(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photos", 2)
    (folder / "nothing").mkdir()
    (folder / "disc" / "notes.txt").write_text("x")
    (folder / "disc" / ".DS_Store").write_text("x")
    (folder / "__MACOSX").mkdir()
    picture("disc", 9).save(folder / "loose.png")
    found = read(folder)
    said = " ".join(finding.message for finding in found.findings)
    assert len(found.train) == 6
    assert "'nothing' holds no image" in said
    assert "1 files among the images are none (1 .txt)" in said
    assert "1 images lie beside the folders of classes" in said


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photos", 2)
    (folder / "disc" / "again").symlink_to(folder, target_is_directory=True)
    assert len(read(folder).train) >= 6


def test_any_name_is_a_class(tmp_path: Path) -> None:
    names = ["a, b", "ünï <script>", "日本語", "0", " x"]
    for name in names:
        (tmp_path / name).mkdir()
        picture("disc", 0).save(tmp_path / name / "a.png")
    assert sorted(read(tmp_path).train.values("label")) == sorted(names)


def test_a_folder_of_one_table_and_the_files_it_names_is_the_table(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    picture("disc", 0).save(tmp_path / "files" / "a.png")
    (tmp_path / "labels.csv").write_text("file,kind\nfiles/a.png,x\n")
    (tmp_path / "files" / "nothing").mkdir()
    found = read(tmp_path / "labels.csv")
    assert found.train.values("file") == ["files/a.png"]


def test_folders_that_hold_nothing_of_use_say_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="It holds: nothing"):
        read(tmp_path / "empty")
    (tmp_path / "other" / "a").mkdir(parents=True)
    (tmp_path / "other" / "a" / "b.xyz").write_text("x")
    with pytest.raises(DataError, match=r"no files in folders of classes\. It holds: a"):
        read(tmp_path / "other")


def packed(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for one in sorted(folder.rglob("*")):
            archive.write(one, one.relative_to(folder.parent))
    return path


def test_a_zip_is_read_as_the_folder_in_it(tmp_path: Path) -> None:
    path = packed(class_folders(tmp_path / "photos", 2), tmp_path / "photos.zip")
    for spill in (tmp_path / "scratch", None):
        found = read(path, spill=spill)
        assert found.train.values("image") == read(tmp_path / "photos").train.values("image")
        assert found.train.folder is not None
        assert (found.train.folder / found.train.values("image")[0]).is_file()


def test_a_zip_as_test_rows(tmp_path: Path) -> None:
    path = packed(class_folders(tmp_path / "new", 2), tmp_path / "new.zip")
    found = read(class_folders(tmp_path / "photos", 2), tests=[path, tmp_path / "new"])
    assert {name: len(rows) for name, rows in found.tests.items()} == {"new": 6, "new-2": 6}


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "C:/out.png", "a/../../out.png", "a\\..\\..\\out.png"])
def test_a_zip_that_reaches_outside_is_refused_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.png", b"x")
        archive.writestr(name, b"x")
    with pytest.raises(DataError, match="names a file outside itself"):
        read(path, spill=tmp_path / "scratch")
    assert not [one for one in (tmp_path / "scratch").rglob("*") if one.is_file()]
    assert not (tmp_path / "out.png").exists()


def test_a_zip_with_a_link_or_damage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "link.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("a/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="holds a link"):
        read(path, spill=tmp_path)
    whole = packed(class_folders(tmp_path / "photos", 2), tmp_path / "photos.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be unpacked"):
        read(tmp_path / "cut.zip", spill=tmp_path)


def test_two_folders_for_one_part_are_refused(tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        class_folders(tmp_path / name, 2)
    with pytest.raises(DataError, match="Two folders could be the valid rows"):
        read(tmp_path)

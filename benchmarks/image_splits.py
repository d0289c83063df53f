"""Repeated splits of the picture sets: folders of train and test, the same for every contender.

Split 0 of a set with official parts is that; every other one draws anew from all pictures, class by class. Exact copies
stay on one side, so that nobody is tested on what it learnt.
"""

import hashlib
import random
import shutil
import zipfile
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
TEST_SHARE = 0.2


def pictures(name: str, work: Path) -> tuple[Path, bool]:
    """The folder of all pictures of a set, and whether it has official parts."""
    if name == "brain_mri":
        return DATA / name, False
    archive = DATA / name / {"cifar10_subset": "cifar10_subset.zip", "flowers": "flowers_220_per_class.zip"}[name]
    folder = work / name
    if not folder.exists():
        beside = folder.with_name(f".{name}.part")
        shutil.rmtree(beside, ignore_errors=True)
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(beside)
        beside.rename(folder)
    inner = next(path for path in folder.iterdir() if path.is_dir())
    return inner, name == "cifar10_subset"


def split(name: str, seed: int, work: Path) -> Path:
    """A folder with train and test, each with a folder a class."""
    found = work / "splits" / f"{name}-{seed}"
    if found.exists():
        return found
    source, official = pictures(name, work)
    parts = {"train": source / "train", "test": source / "test"} if official else {"": source}
    files = [(part, path) for part, folder in parts.items() for path in sorted(folder.glob("*/*")) if path.is_file()]
    if not (official and seed == 0):
        share = len([one for one in files if one[0] == "test"]) / len(files) if official else TEST_SHARE
        files = drawn([path for _, path in files], share, f"{name} {seed}")
    beside = found.with_name(f".{found.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    for part, path in files:
        folder = beside / part / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        prefix = f"{path.parent.parent.name}-" if official else ""
        shutil.copyfile(path, folder / f"{prefix}{path.name}")
    beside.rename(found)
    return found


def drawn(files: list[Path], share: float, key: str) -> list[tuple[str, Path]]:
    """Every class divided alike; copies of one picture, of any class, go with the first of them."""
    sides: dict[str, str] = {}
    found = []
    for name in sorted({path.parent.name for path in files}):
        own = [path for path in files if path.parent.name == name]
        random.Random(f"{key} {name}").shuffle(own)
        for number, path in enumerate(own):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            side = sides.setdefault(digest, "test" if number < round(share * len(own)) else "train")
            found.append((side, path))
    return found

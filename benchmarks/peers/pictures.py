"""Pictures from folders of classes, and answers to a file; shared by the peers, which know nothing of whet."""

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image


def read_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """Files and classes, sorted by class and name."""
    files = [path for path in sorted(folder.glob("*/*")) if path.is_file()]
    return files, [path.parent.name for path in files]


class Pictures(torch.utils.data.Dataset):
    """Decoded and preprocessed when they are asked for, as tutorials do it."""

    def __init__(self, files: list[Path], labels: list[int], processor: Any) -> None:
        self.files, self.labels, self.processor = files, labels, processor

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> dict[str, Any]:
        with Image.open(self.files[place]) as image:
            pixels = self.processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": pixels, "labels": self.labels[place]}


def save_answers(path: Path, files: list[Path], names: list[str], answers: list[int]) -> None:
    """Class and name of each test file to its answer."""
    found = {f"{file.parent.name}/{file.name}": names[answer] for file, answer in zip(files, answers, strict=True)}
    path.write_text(json.dumps(found), encoding="utf-8")

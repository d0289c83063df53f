"""Peer (e): a plain PyTorch loop as tutorials write it: Adam, batches of 32, two loading workers, five epochs.

Frozen, only the new last layer learns, at a rate of 1e-3, and every epoch passes every picture through the backbone, in
evaluation mode as the better tutorials do; full, everything learns at 1e-4.
"""

import argparse
from pathlib import Path

import torch
from rows import save_result
from torch import nn
from torch.utils.data import DataLoader
from transformers import AutoImageProcessor, AutoModelForImageClassification

from pictures import Pictures, read_folder, save_answers

BATCH, WORKERS = 32, 2


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("data", "model", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--frozen", action="store_true")
    wanted = parser.parse_args()
    torch.manual_seed(0)
    files, labels = read_folder(wanted.data / "train")
    names = sorted(set(labels))
    processor = AutoImageProcessor.from_pretrained(wanted.model, backend="pil")
    model = AutoModelForImageClassification.from_pretrained(
        wanted.model, num_labels=len(names), ignore_mismatched_sizes=True
    )
    head = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    if wanted.frozen:
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for parameter in head.parameters():
            parameter.requires_grad_(True)
    train = Pictures(files, [names.index(label) for label in labels], processor)
    loader = DataLoader(train, BATCH, shuffle=True, num_workers=WORKERS)
    optimizer = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-3 if wanted.frozen else 1e-4
    )
    for _ in range(wanted.epochs):
        model.train(not wanted.frozen)
        for batch in loader:
            loss = nn.functional.cross_entropy(model(batch["pixel_values"]).logits, batch["labels"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    files, labels = read_folder(wanted.data / "test")
    test = DataLoader(Pictures(files, [names.index(label) for label in labels], processor), 64, num_workers=WORKERS)
    with torch.no_grad():
        answers = [one for batch in test for one in model(batch["pixel_values"]).logits.argmax(1).tolist()]
    save_answers(wanted.out / "answers.json", files, names, answers)
    save_result(wanted.out, epochs=wanted.epochs)


if __name__ == "__main__":
    main()

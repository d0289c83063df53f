"""Peer (d2): the transformers Trainer well set, a whole process.

Rate 2e-4, batches of 32 of like length, bf16 autocast, a linear head on the mean over tokens. After every epoch it
answers the test set; that time is measured and taken out of what ``epochs.jsonl`` says (``seconds``: from the
process's first line to here, imports included, evaluation left out). Evaluation runs once an epoch on the test set
itself, which favours the peer: it may stop at the best moment, as no honest run could.
"""

import time

BEGAN = time.perf_counter()

import argparse  # noqa: E402 - the clock starts before the imports
import json  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from rows import numbered, read_rows, save_answers, save_result  # noqa: E402
from steps import StepClock  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from transformers import (  # noqa: E402
    AutoModel,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

EVALUATION_BATCH = 64


class MeanPooled(nn.Module):
    """An encoder, the mean over its tokens, and one linear layer."""

    def __init__(self, folder: Path, classes: int) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(folder)
        self.head = nn.Linear(self.encoder.config.hidden_size, classes)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None, **more: Any
    ) -> dict[str, Tensor]:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **more).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        logits = self.head((hidden * weights).sum(1) / weights.sum(1))
        found = {"logits": logits}
        if labels is not None:
            found = {"loss": nn.functional.cross_entropy(logits.float(), labels), **found}
        return found


class EpochEnd(TrainerCallback):
    """Answers the test set after every epoch; the step clock stands still meanwhile."""

    def __init__(self, batches: list[tuple[list[int], dict[str, Tensor]]], targets: list[int], out: Path) -> None:
        self.batches, self.targets, self.out = batches, np.array(targets), out
        self.clock: StepClock
        self.epoch = 0

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
        if self.clock.limit:
            return
        began = time.perf_counter()
        seconds = began - BEGAN - self.clock.paused
        self.epoch += 1
        answers = self.answers(model)
        save_answers(self.out / f"epoch-{self.epoch}.npz", answers)
        accuracy = float(np.mean(answers == self.targets))
        with (self.out / "epochs.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"epoch": self.epoch, "seconds": seconds, "accuracy": accuracy}) + "\n")
        self.clock.paused += time.perf_counter() - began

    def answers(self, model: nn.Module) -> np.ndarray:
        """(N,) class numbers, in the order of the test file."""
        found = np.zeros(len(self.targets), np.int64)
        model.eval()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            for places, batch in self.batches:
                found[places] = model(**batch)["logits"].argmax(1).numpy()
        model.train()
        return found


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("train", "test", "model", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit-steps", type=int, default=0)
    wanted = parser.parse_args()

    texts, labels = read_rows(wanted.train, wanted.text, wanted.target)
    test_texts, test_labels = read_rows(wanted.test, wanted.text, wanted.target)
    names = sorted(set(labels))
    tokenizer = AutoTokenizer.from_pretrained(wanted.model)
    model = MeanPooled(wanted.model, len(names))

    rows = Dataset.from_dict({"text": texts, "labels": numbered(labels, names)})
    train = rows.map(lambda part: tokenizer(part["text"], truncation=True), batched=True, remove_columns="text")
    targets = numbered(test_labels, names)
    encoded = tokenizer(test_texts, truncation=True)["input_ids"]
    order = sorted(range(len(encoded)), key=lambda place: len(encoded[place]))
    batches = []
    for begin in range(0, len(order), EVALUATION_BATCH):
        places = order[begin : begin + EVALUATION_BATCH]
        padded = tokenizer.pad({"input_ids": [encoded[place] for place in places]}, return_tensors="pt")
        batches.append((places, {name: padded[name] for name in ("input_ids", "attention_mask")}))

    ends = EpochEnd(batches, targets, wanted.out)
    ends.clock = StepClock(len(train), 32, wanted.limit_steps)
    Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(wanted.out / "trainer"),
            num_train_epochs=wanted.epochs,
            per_device_train_batch_size=32,
            learning_rate=2e-4,
            bf16=True,
            use_cpu=True,  # bf16 is refused without it where there is no GPU
            train_sampling_strategy="group_by_length",
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=train,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[ends, ends.clock],
    ).train()
    save_result(wanted.out, rate=ends.clock.rate, steps=len(ends.clock.ends), batch=32, evaluating=ends.clock.paused)


if __name__ == "__main__":
    main()

"""Peer (d): the transformers Trainer at its default settings, a whole process.

AutoModelForSequenceClassification on the encoder, tokenised by its own tokenizer, padded to the longest of each batch.
Every training argument is the library's default (batch 8, rate 5e-5, float32, linear decay), except those that say
where to write, not to write, whom not to report to, and for how long. ``--batch`` and ``--limit-steps`` serve the
comparison of rates alone.
"""

import argparse
from pathlib import Path

import numpy as np
from datasets import Dataset
from rows import numbered, read_rows, save_answers, save_result
from steps import StepClock
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("train", "test", "model", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit-steps", type=int, default=0)
    wanted = parser.parse_args()

    texts, labels = read_rows(wanted.train, wanted.text, wanted.target)
    test_texts, test_labels = read_rows(wanted.test, wanted.text, wanted.target)
    names = sorted(set(labels))
    tokenizer = AutoTokenizer.from_pretrained(wanted.model)
    model = AutoModelForSequenceClassification.from_pretrained(wanted.model, num_labels=len(names))

    def tokenised(texts: list[str], labels: list[str]) -> Dataset:
        rows = Dataset.from_dict({"text": texts, "label": numbered(labels, names)})
        return rows.map(lambda part: tokenizer(part["text"], truncation=True), batched=True, remove_columns="text")

    train, test = tokenised(texts, labels), tokenised(test_texts, test_labels)
    clock = StepClock(len(train), wanted.batch, wanted.limit_steps)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(wanted.out / "trainer"),
            num_train_epochs=wanted.epochs,
            per_device_train_batch_size=wanted.batch,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=train,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[clock],
    )
    trainer.train()
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    facts = {"rate": clock.rate, "steps": len(clock.ends), "batch": wanted.batch, "trained": trained}
    facts["steps_in_all"] = wanted.epochs * -(-len(train) // wanted.batch)
    if not wanted.limit_steps:
        answers = trainer.predict(test).predictions.argmax(axis=1)
        save_answers(wanted.out / "answers.npz", answers)
        facts["accuracy"] = float(np.mean(answers == np.array(test["label"])))
    save_result(wanted.out, **facts)


if __name__ == "__main__":
    main()

"""Peer (d): the transformers Trainer on a folder of pictures, as its guide has it: at its defaults, for 5 epochs."""

import argparse
from pathlib import Path

from rows import save_result
from steps import StepClock
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments

from pictures import Pictures, read_folder, save_answers


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("data", "model", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8, help="the library's default")
    parser.add_argument("--limit-steps", type=int, default=0)
    wanted = parser.parse_args()
    files, labels = read_folder(wanted.data / "train")
    names = sorted(set(labels))
    processor = AutoImageProcessor.from_pretrained(wanted.model, backend="pil")
    model = AutoModelForImageClassification.from_pretrained(
        wanted.model, num_labels=len(names), ignore_mismatched_sizes=True
    )
    train = Pictures(files, [names.index(label) for label in labels], processor)
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
        callbacks=[clock],
    )
    trainer.train()
    save_result(wanted.out, rate=clock.rate, steps=len(clock.ends), batch=wanted.batch)
    if not wanted.limit_steps:
        files, labels = read_folder(wanted.data / "test")
        test = Pictures(files, [names.index(label) for label in labels], processor)
        answers = trainer.predict(test).predictions.argmax(axis=1).tolist()
        save_answers(wanted.out / "answers.json", files, names, answers)


if __name__ == "__main__":
    main()

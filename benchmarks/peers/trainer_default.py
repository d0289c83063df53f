"""Peer (d): the transformers Trainer at its default settings, a whole process.

AutoModelForSequenceClassification on the encoder, tokenised by its own tokenizer, padded to the longest of each batch.
Every training argument is the library's default (batch 8, rate 5e-5, float32, linear decay), except those that say
where to write, not to write, whom not to report to, and for how long. ``--batch`` and what follows it serve the
comparison of rates alone; without ``--test`` nothing is answered.
"""

import argparse
from pathlib import Path
from typing import Any

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
    for name in ("train", "model", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--text", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit-steps", type=int, default=0)
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast, and batches of like length")
    parser.add_argument("--lora-rank", type=int, default=0, help="LoRA by peft on every linear layer of the blocks")
    wanted = parser.parse_args()

    names = sorted(set(read_rows(wanted.train, wanted.text, wanted.target)[1]))
    tokenizer = AutoTokenizer.from_pretrained(wanted.model)
    model = AutoModelForSequenceClassification.from_pretrained(wanted.model, num_labels=len(names))
    if wanted.lora_rank:
        model = with_lora(model, wanted.lora_rank)
    length = {"max_length": wanted.max_length} if wanted.max_length else {}

    def tokenised(path: Path) -> Dataset:
        texts, labels = read_rows(path, wanted.text, wanted.target)
        rows = Dataset.from_dict({"text": texts, "label": numbered(labels, names)})
        return rows.map(
            lambda part: tokenizer(part["text"], truncation=True, **length), batched=True, remove_columns="text"
        )

    train = tokenised(wanted.train)
    faster = {"bf16": True, "use_cpu": True, "train_sampling_strategy": "group_by_length"} if wanted.bf16 else {}
    clock = StepClock(len(train), wanted.batch, wanted.limit_steps)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(wanted.out / "trainer"),
            num_train_epochs=wanted.epochs,
            per_device_train_batch_size=wanted.batch,
            save_strategy="no",
            report_to="none",
            **faster,
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
    if wanted.test and not wanted.limit_steps:
        test = tokenised(wanted.test)
        answers = trainer.predict(test).predictions.argmax(axis=1)
        save_answers(wanted.out / "answers.npz", answers)
        facts["accuracy"] = float(np.mean(answers == np.array(test["label"])))
    save_result(wanted.out, **facts)


def with_lora(model: Any, rank: int) -> Any:
    """The model with adapters through peft, as whet's LoRA places them."""
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=rank,
        lora_alpha=2 * rank,
        target_modules=["query", "key", "value", "dense"],
        exclude_modules=r".*pooler\..*",
    )
    return get_peft_model(model, config)


if __name__ == "__main__":
    main()

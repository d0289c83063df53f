"""How many examples a second does the transformers Trainer take? Full tuning or LoRA through peft, a whole process.

AutoModelForSequenceClassification on the encoder; every training argument is the library's default but for those given.
Runs a number of steps and stops; nothing is saved or evaluated.
"""

import argparse
import json
from pathlib import Path

from datasets import Dataset
from rows import numbered, read_rows
from steps import StepClock
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("train", "model", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast, and batches of like length")
    parser.add_argument("--lora-rank", type=int, default=0, help="LoRA on every linear layer of the blocks")
    parser.add_argument("--limit-steps", type=int, default=150)
    wanted = parser.parse_args()

    texts, labels = read_rows(wanted.train, wanted.text, wanted.target)
    names = sorted(set(labels))
    tokenizer = AutoTokenizer.from_pretrained(wanted.model)
    model = AutoModelForSequenceClassification.from_pretrained(wanted.model, num_labels=len(names))
    if wanted.lora_rank:
        from peft import LoraConfig, TaskType, get_peft_model

        rank = wanted.lora_rank
        layers = ["query", "key", "value", "dense"]
        excluded = r".*pooler\..*"
        config = LoraConfig(
            task_type=TaskType.SEQ_CLS, r=rank, lora_alpha=2 * rank, target_modules=layers, exclude_modules=excluded
        )
        model = get_peft_model(model, config)
    rows = Dataset.from_dict({"text": texts, "labels": numbered(labels, names)})
    length = {"max_length": wanted.max_length} if wanted.max_length else {}
    train = rows.map(
        lambda part: tokenizer(part["text"], truncation=True, **length), batched=True, remove_columns="text"
    )
    clock = StepClock(len(train), wanted.batch, wanted.limit_steps)
    faster = {"bf16": True, "use_cpu": True, "train_sampling_strategy": "group_by_length"} if wanted.bf16 else {}
    Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(wanted.out / "trainer"),
            per_device_train_batch_size=wanted.batch,
            save_strategy="no",
            report_to="none",
            **faster,
        ),
        train_dataset=train,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[clock],
    ).train()
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    print(json.dumps({"rate": clock.rate, "steps": len(clock.ends), "batch": wanted.batch, "trained": trained}))


if __name__ == "__main__":
    main()

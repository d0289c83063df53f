"""SetFit on one subsample, in an environment of its own: its defaults, or fewer pairs where those take too long.

Its defaults draw every pair of rows once (oversampling the rarer kind); where this takes more than 10,000 steps of 16
pairs, ``num_iterations=20`` is used and said. One epoch, rate 2e-5 for the body, logistic regression on top.
"""

import argparse
import json
import sys
import time
from pathlib import Path

BEGAN = time.monotonic()
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datasets import Dataset  # noqa: E402 - the clock starts before the imports
from samples import sample, score  # noqa: E402
from setfit import SetFitModel, Trainer, TrainingArguments, sample_dataset  # noqa: E402, F401

MOST_STEPS = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", dest="name", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    wanted = parser.parse_args()
    train, test = sample(wanted.name, wanted.size, wanted.seed)
    rows = Dataset.from_dict({"text": [text for text, _ in train], "label": [label for _, label in train]})
    steps = pairs([label for _, label in train]) / 16
    fewer = {"num_iterations": 20} if steps > MOST_STEPS else {}
    model = SetFitModel.from_pretrained(str(wanted.model))
    arguments = TrainingArguments(
        output_dir=str(wanted.out / "trainer"), seed=wanted.seed, report_to="none", save_strategy="no", **fewer
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
    answers = [str(answer) for answer in model.predict([text for text, _ in test])]
    value = score(wanted.name, answers, [label for _, label in test])
    facts = {"score": value, "seconds": time.monotonic() - BEGAN, "steps": round(steps), "fewer": bool(fewer)}
    print(json.dumps(facts))


def pairs(labels: list[str]) -> int:
    """How many pairs its default strategy draws: twice the more frequent kind, of rows alike or of rows not alike."""
    counts = [labels.count(label) for label in set(labels)]
    alike = sum(count * (count + 1) // 2 for count in counts)
    return 2 * max(alike, len(labels) * (len(labels) + 1) // 2 - alike)


if __name__ == "__main__":
    main()

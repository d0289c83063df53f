"""Run as a process of its own: load packaged folders as someone would who has never heard of whet.

Reads {"folders": {name: path}, "texts": [...]} from standard input, prints what each folder answers, what was
said while loading, and how loading a pooled folder's root as something else fails.
"""

import json
import logging
import socket
import sys
from pathlib import Path


def refuse(*_: object) -> None:
    raise OSError("no network here")


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def main() -> None:
    socket.socket.connect = refuse  # type: ignore[method-assign, assignment]
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer

    kept = Kept()
    for name in ("transformers", "sentence_transformers"):
        logging.getLogger(name).addHandler(kept)
    transformers.logging.disable_progress_bar()
    asked = json.load(sys.stdin)
    answers = {}
    for name, folder in asked["folders"].items():
        kept.said.clear()
        found = {}
        if (Path(folder) / "modules.json").exists():
            model = SentenceTransformer(folder, device="cpu")
            found["outputs"] = model.encode(asked["texts"]).tolist()
            found["window"] = model.max_seq_length
            found["said"] = list(kept.said)
            for kind in ("AutoModel", "AutoModelForSequenceClassification"):
                try:
                    getattr(transformers, kind).from_pretrained(folder)
                    found[kind] = "loads"
                except (OSError, ValueError) as error:
                    found[kind] = type(error).__name__
        else:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            classifier = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
            with torch.inference_mode():
                batch = tokenizer(asked["texts"], padding=True, truncation=True, return_tensors="pt")
                found["outputs"] = classifier(**batch).logits.tolist()
            found["labels"] = classifier.config.id2label
            found["problem"] = classifier.config.problem_type
            found["window"] = tokenizer.model_max_length
            found["said"] = list(kept.said)
        answers[name] = found
    json.dump({"answers": answers, "whet": [name for name in sys.modules if name.startswith("whet")]}, sys.stdout)


if __name__ == "__main__":
    main()

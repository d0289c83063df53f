"""How a fine-tuned text encoder is written: the layouts of the transformers and sentence-transformers libraries.

Both load without whet and answer as it does for texts that fit one window. What was trained is written anew as
float32 safetensors, the rest (config, tokenizer, modules without weights) is taken over from the source folder.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from whet.backbones.backbone import HeadedModel, Meaning
from whet.backbones.pooling import read_modules
from whet.data.kind import in_python
from whet.modalities.model_folder import read_json, transformer_folder, write_json

PROBLEMS = {
    "classification": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regression": "regression",
}
"""What the transformers library calls a kind of predictions."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
)
MODULES = "sentence_transformers.models."
"""Where modules.json says that a module's class is; every version of that library since 2.0 finds it there."""


def save_pooled(model: HeadedModel, head: nn.Linear, folder: Path, source: Path, max_length: int | None) -> None:
    """A sentence-transformers folder: 0_Transformer, the source's modules in order, and the head as a Dense.

    Nothing loadable lies at the root, so that no one gets a random head by accident.
    """
    inner, body = folder / "0_Transformer", _parts(model)
    write_encoder(body.encoder, inner, transformer_folder(source))
    write_tokenizer(inner, transformer_folder(source), max_length)
    window = read_json(stated_window(source)) | ({} if max_length is None else {"max_seq_length": max_length})
    write_json(inner / "sentence_bert_config.json", window)
    entries = [entry(0, "0_Transformer", f"{MODULES}Transformer")]
    layers = iter(body.layers)
    stated: list[tuple[str, Path | None]] = [*read_modules(source)[2]]
    for kind, place in stated or [(f"{MODULES}Pooling", None)]:
        path = f"{len(entries)}_{kind.rpartition('.')[2]}"
        (folder / path).mkdir()
        if kind.endswith("Pooling"):
            write_pooling(body, folder / path, place)
        else:
            write_layer(next(layers), kind, folder / path, place)
        entries.append(entry(len(entries), path, kind))
    path = f"{len(entries)}_Dense"
    write_dense(head, folder / path)
    entries.append(entry(len(entries), path, f"{MODULES}Dense"))
    write_json(folder / "modules.json", entries)
    write_json(folder / "config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": None})


def save_native(
    model: HeadedModel, head: nn.Linear, folder: Path, source: Path, meaning: Meaning, **changes: Any
) -> None:
    """A classifier of the transformers library with its own head; labels, problem type, ``changes`` in its config."""
    body, inner = _parts(model), transformer_folder(source)
    parent, _, leaf = body.head_name.rpartition(".")
    holder = body.model.get_submodule(parent)
    labels = meaning.labels or ("value",)
    setattr(holder, leaf, head)
    try:
        write_encoder(
            body.model,
            folder,
            inner,
            id2label={str(i): label for i, label in enumerate(labels)},
            label2id={label: i for i, label in enumerate(labels)},
            problem_type=PROBLEMS[meaning.kind],
            **changes,
        )
    finally:
        setattr(holder, leaf, nn.Identity())


def write_encoder(encoder: nn.Module, folder: Path, source: Path, **changes: Any) -> None:
    """Weights as float32 safetensors, and the source's config with ``changes``."""
    with quiet_transformers():
        encoder.save_pretrained(str(folder))  # type: ignore[operator]
    stated = read_json(source / "config.json")
    for name in ("dtype", "torch_dtype"):  # what is stated there holds for the source's weights, not for these
        stated.pop(name, None)
    saved = read_json(folder / "config.json")
    write_json(folder / "config.json", stated | {"architectures": saved.get("architectures")} | changes)


def write_tokenizer(folder: Path, source: Path, max_length: int | None) -> None:
    """The source's tokenizer; plain loading truncates at ``max_length`` tokens."""
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)
    if max_length is not None:
        settings = read_json(folder / "tokenizer_config.json")
        write_json(folder / "tokenizer_config.json", settings | {"model_max_length": max_length})


def stated_window(source: Path) -> Path:
    """The file in which a sentence-transformers folder states its window; it may not exist."""
    places = [transformer_folder(source), source]
    files = [place / "sentence_bert_config.json" for place in places]
    return next((file for file in files if file.exists()), files[0])


def write_pooling(body: Any, folder: Path, place: Path | None) -> None:
    """The source's own pooling, or the mean."""
    if place is not None:
        shutil.copyfile(place / "config.json", folder / "config.json")
        return
    width = int(body.encoder.config.hidden_size)
    write_json(folder / "config.json", {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True})


def write_layer(layer: nn.Module, kind: str, folder: Path, place: Path | None) -> None:
    """A module behind the pooling: the source's config, with trained weights where it has any."""
    if place is not None and (place / "config.json").exists():
        shutil.copyfile(place / "config.json", folder / "config.json")
    if not any(True for _ in layer.parameters()):
        return
    dense = kind.endswith("Dense")
    module = layer[0] if dense and isinstance(layer, nn.Sequential) else layer
    tensors = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    prefix = "linear." if dense else "norm."
    save_file({prefix + name: value for name, value in tensors.items()}, str(folder / "model.safetensors"))


def write_dense(head: nn.Linear, folder: Path) -> None:
    """The head as a Dense module that changes nothing behind the linear layer."""
    folder.mkdir()
    settings = {"in_features": head.in_features, "out_features": head.out_features, "bias": True}
    write_json(folder / "config.json", settings | {"activation_function": "torch.nn.modules.linear.Identity"})
    tensors = {f"linear.{name}": value.cpu().contiguous() for name, value in head.state_dict().items()}
    save_file(tensors, str(folder / "model.safetensors"))


def entry(number: int, path: str, kind: str) -> dict[str, Any]:
    """One line of modules.json."""
    return {"idx": number, "name": str(number), "path": path, "type": kind}


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no advice from the transformers library; its errors still come."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _parts(model: HeadedModel) -> Any:
    return model.body  # a PooledBody or NativeBody, whose own parts the contract does not name


def python_native(folder: str, example: Sequence[str], meaning: Meaning) -> str:
    """How the transformers library answers; it fails for longer texts unless it is told to cut them."""
    top = f'from transformers import pipeline\n\nclassify = pipeline("text-classification", model={folder!r})\n'
    given = f'"{example[0]}"' if len(example) == 1 else f'{{"text": "{example[0]}", "text_pair": "{example[1]}"}}'
    return f"{top}classify({given}, truncation=True)"


def python_pooled(folder: str, example: Sequence[str], meaning: Meaning) -> str:
    """How the sentence-transformers library answers."""
    answer = {
        "classification": "print(labels[str(outputs[0].argmax())])  # softmax(outputs) gives probabilities",
        "multi-label": "# 1 / (1 + exp(-outputs)) gives a probability for each label",
        "regression": "print(outputs[0, 0])  # in the unit of the target",
    }[meaning.kind]
    lines = ["from sentence_transformers import SentenceTransformer", "", f"model = SentenceTransformer({folder!r})"]
    if meaning.kind != "regression":
        stated = f"{folder}/whet.json"
        lines = ["import json", "", *lines, f'labels = json.load(open({stated!r}, encoding="utf-8"))["id2label"]']
    return "\n".join([*lines, f"outputs = model.encode([{in_python(example)}])", answer])

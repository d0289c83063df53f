"""The folder of a pre-trained model: its configs, and where its transformer lies.

Loads no library: folders are looked at before anything is opened.
"""

import json
from pathlib import Path
from typing import Any

from whet.errors import ModelError

PACKAGED = "sentence-transformers/all-MiniLM-L6-v2"
"""The encoder that comes along, by its name on the hub."""
_PROCESSORS = (
    "tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
    "spm.model", "preprocessor_config.json", "processor_config.json",
)  # fmt: skip
_WITHOUT_VOCABULARY = ("ByT5", "Canine", "Perceiver")  # their tokenizers read bytes or characters


def transformer_folder(folder: Path) -> Path:
    """Where the transformer lies: ``folder`` itself, or the first module of a sentence-transformers folder.

    Raises:
        ModelError: no config.json.
    """
    modules = stated_modules(folder)
    core = folder / modules[0].get("path", "") if modules else folder
    if (core / "config.json").is_file():
        return core
    adapter = " It is an adapter: its base model is needed too." if (folder / "adapter_config.json").exists() else ""
    raise ModelError(
        f"The folder holds no model: it has no config.json.{adapter}",
        where=str(core),
        fix="give the folder that save_pretrained wrote, or a run folder of whet",
    )


def has_processor(folder: Path) -> bool:
    """Whether the folder says how values become tensors: a tokenizer, or what stands for one elsewhere."""
    core = transformer_folder(folder)
    if any((place / name).is_file() for place in (core, folder) for name in _PROCESSORS):
        return True
    return str(read_json(core / "tokenizer_config.json").get("tokenizer_class")).startswith(_WITHOUT_VOCABULARY)


def stated_modules(folder: Path) -> list[dict[str, Any]]:
    """The modules that a sentence-transformers folder states, in order; none for a plain transformers folder."""
    listed = folder / "modules.json"
    modules: list[dict[str, Any]] = read_json(listed, list)
    outside = [module for module in modules if ".." in Path(module["path"]).parts or Path(module["path"]).is_absolute()]
    if outside:
        raise ModelError(
            f"A module lies outside the model folder: {outside[0]['path']}.", where=str(listed), fix="correct the path"
        )
    return modules


def read_json(path: Path, kind: type = dict) -> Any:
    """What a JSON file holds, nothing where there is no such file.

    Raises:
        ModelError: it is damaged, or holds something else than an object (or ``kind``).
    """
    if not path.is_file():
        return kind()
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(f"{path.name} cannot be read: {error}.", where=str(path), fix="restore the file") from error
    if not isinstance(value, kind):
        raise ModelError(f"{path.name} does not hold a {kind.__name__}.", where=str(path), fix="restore the file")
    return value


def write_json(path: Path, content: Any) -> None:
    """Indented UTF-8 JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

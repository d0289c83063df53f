"""Tiny pre-trained folders of several kinds, fine-tuned at random, and packaged."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from whet import catalog
from whet.backbones.backbone import HeadedModel
from whet.backbones.text_encoder import TextEncoder
from whet.backbones.text_layout import quiet_transformers
from whet.data.rows import Columns
from whet.deploy.package import package
from whet.testing import tiny_text_model

TEXTS = ["Please refund my invoice", "login", "", "the PARCEL is late again, why?", "payment and price and charge"]
STATES: dict[str, dict[str, Any]] = {
    "classification": {"labels": ["billing", "a, b", "<script>"], "counts": [3, 2, 1], "class_weights": None},
    "multi-label": {"labels": ["x", "y"], "counts": [3, 2], "form": {"list": True}, "thresholds": [0.3, 0.6]},
    "regression": {"labels": [], "mean": 40.0, "scale": 12.5},
}
SENTENCE = "sentence_transformers.models."


@dataclass(frozen=True)
class Packaged:
    """A live model and the folder that was made of it."""

    live: HeadedModel
    family: TextEncoder
    source: Path
    folder: Path
    task: str
    state: dict[str, Any]
    settings: dict[str, Any]


def packaged(
    folder: Path, source: Path, *, task: str = "classification", head: str = "pooled", **more: Any
) -> Packaged:
    """Load, move every weight of head and scaler, and package."""
    family, state = TextEncoder(head=head), STATES[task]  # type: ignore[arg-type]
    outputs = catalog.find("task", task)().outputs(state)
    live = family.load(source, outputs=outputs, seed=3).model
    shake(live)
    pairs = bool(more.get("pairs"))
    settings: dict[str, Any] = {
        "family": family,
        "source": source,
        "task": catalog.find("task", task)(),
        "state": state,
        "columns": Columns(("text", "other") if pairs else ("text",), ("target",)),
        "check": [(text, text[::-1]) if pairs else (text,) for text in TEXTS],
        **more,
    }
    package(live, folder=folder, **settings)
    return Packaged(live, family, source, folder, task, state, settings)


def shake(model: HeadedModel) -> None:
    """Give head and scaler weights that show every mistake in folding."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in (model.head.weight, model.head.bias, model.scaler.mean):
            tensor.copy_(torch.randn(tensor.shape, generator=draw))
        model.scaler.scale.copy_(0.5 + torch.rand(model.scaler.scale.shape, generator=draw))


def sentence_folder(folder: Path, modules: list[tuple[str, dict[str, Any]]], *, lower: bool = False) -> Path:
    """A tiny BERT with the given modules behind it, in the layout of sentence-transformers."""
    tiny_text_model(folder)
    listed = [{"idx": 0, "name": "0", "path": "", "type": f"{SENTENCE}Transformer"}]
    for number, (kind, config) in enumerate(modules, start=1):
        place = folder / f"{number}_{kind}"
        place.mkdir()
        (place / "config.json").write_text(json.dumps(config))
        if kind in ("Dense", "LayerNorm"):
            write_weights(place, kind, config)
        listed.append({"idx": number, "name": str(number), "path": place.name, "type": SENTENCE + kind})
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32, "do_lower_case": lower}))
    return folder


def write_weights(place: Path, kind: str, config: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    draw = torch.Generator().manual_seed(7)
    if kind == "Dense":
        shape = (config["out_features"], config["in_features"])
        tensors = {"linear.weight": torch.randn(shape, generator=draw), "linear.bias": torch.ones(shape[0])}
    else:
        width = config["dimension"]
        tensors = {"norm.weight": torch.rand(width, generator=draw), "norm.bias": torch.ones(width)}
    save_file(tensors, str(place / "model.safetensors"))


def other_family(folder: Path, kind: str) -> Path:
    """A tiny encoder of another family with a tokenizer of its own kind: roberta, distilbert or mpnet."""
    import transformers

    if kind == "distilbert":
        tiny_text_model(folder)
        vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        config: Any = transformers.DistilBertConfig(
            vocab_size=max(vocabulary.values()) + 1,
            dim=32,
            n_layers=2,
            n_heads=4,
            hidden_dim=64,
            max_position_embeddings=64,
        )
        (folder / "model.safetensors").unlink()
    else:
        folder.mkdir(parents=True)
        tokenizer = byte_level() if kind == "roberta" else word_pieces()
        tokenizer.save(str(folder / "tokenizer.json"))
        names = {"roberta": "RobertaTokenizer", "mpnet": "MPNetTokenizer"}
        special = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
        special |= {
            "pad_token": "<pad>",
            "mask_token": "<mask>",
            "unk_token": "<unk>" if kind == "roberta" else "[UNK]",
        }
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": names[kind], "model_max_length": 60, **special})
        )
        maker = {"roberta": transformers.RobertaConfig, "mpnet": transformers.MPNetConfig}[kind]
        config = maker(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=66,
            type_vocab_size=1,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        )
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = transformers.AutoModel.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(str(folder))
    return folder


def byte_level() -> Tokenizer:
    """Byte-level BPE, as RoBERTa has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)  # type: ignore[assignment]
    return tokenizer


def word_pieces() -> Tokenizer:
    """WordPiece between <s> and </s>, as MPNet has it."""
    letters = "abcdefghijklmnopqrstuvwxyz?,."
    pieces = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>", *letters, *("##" + letter for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # type: ignore[call-arg]
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))  # type: ignore[assignment]
    return tokenizer


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tamper(path: Path) -> None:
    """Change one tensor, and keep the file whole."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(str(path))
    name = max(tensors, key=lambda key: tensors[key].numel())
    tensors[name] *= 1.5
    save_file(tensors, str(path))


def copy_of(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to

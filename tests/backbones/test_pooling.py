"""Pooling and the layers behind it give what the sentence-transformers library gives."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from whet.backbones.pooling import PooledBody, Pooling, read_modules
from whet.errors import ModelError

LEGACY = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def test_several_legacy_modes_are_joined_in_the_order_of_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling as Theirs

    flags = {f"pooling_mode_{name}": name in ("mean_tokens", "cls_token", "max_tokens") for name in LEGACY}
    write(tmp_path, {"word_embedding_dimension": 4, **flags})
    ours, _, _ = read_modules(tmp_path)
    theirs = Theirs.load(str(tmp_path / "1_Pooling"))
    hidden, mask = torch.randn(2, 5, 4), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    expected = theirs({"token_embeddings": hidden, "attention_mask": mask})["sentence_embedding"]
    torch.testing.assert_close(ours(hidden, mask), expected)


def test_a_module_before_the_pooling_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"word_embedding_dimension": 4, "pooling_mode_mean_tokens": True})
    entries = json.loads((tmp_path / "modules.json").read_text())
    early = {"idx": 1, "name": "1", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
    (tmp_path / "modules.json").write_text(json.dumps([entries[0], early, entries[1]]))
    with pytest.raises(ModelError, match="between the transformer and the pooling"):
        read_modules(tmp_path)


def test_a_layer_in_bfloat16_takes_float32_features() -> None:
    class Encoder(nn.Module):
        def forward(self, input_ids: torch.Tensor) -> object:
            hidden = torch.zeros(*input_ids.shape, 4, dtype=torch.bfloat16)
            return type("Output", (), {"last_hidden_state": hidden})()

    body = PooledBody(Encoder(), Pooling(), [nn.Linear(4, 3)]).to(torch.bfloat16)
    assert body(input_ids=torch.ones(2, 3, dtype=torch.int64)).shape == (2, 3)


def write(folder: Path, config: dict[str, object]) -> None:
    kinds = ["Transformer", "Pooling"]
    entries = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))

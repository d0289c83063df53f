"""Which families of the transformers library load, where they are cut, and which of them replay.

Each is a random model of three narrow blocks, made from its config. A family that does not replay is refused by
``verify`` with a reason and trains without it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whet.backbones.backbone import Backbone, HeadedModel, to_bfloat16
from whet.backbones.cut import ChainCut, put_module
from whet.backbones.describe import find_tables
from whet.backbones.text_encoder import TextEncoder, probe_input
from whet.backbones.text_layout import quiet_transformers
from whet.errors import ModelError
from whet.tasks.task import Batch, Term
from whet.training.replay import Verdict, verify

NARROW = {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
NARROW |= {"intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1}
NARROW |= {"eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
RELATIVE: dict[str, Any] = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
RELATIVE |= {"type_vocab_size": 0, "position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True}

REPLAY: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {},
    "xlm-roberta": {},
    "camembert": {},
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 48},
    "electra": {"embedding_size": 32},
    "mpnet": {},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
    "deberta-v2": RELATIVE,
    "modernbert": {"local_attention": 8},
    "nomic_bert": {},
    "eurobert": {"num_key_value_heads": 2, "head_dim": 16},
    "jina_embeddings_v3": {},
    "convbert": {"embedding_size": 16},
    "roformer": {"embedding_size": 16},
    "ernie": {},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16},
    "megatron-bert": {},
    "nystromformer": {},
    "fnet": {},
    "longformer": {"attention_window": 8},
    "big_bird": {"attention_type": "original_full"},
    "data2vec-text": {},
    "roberta-prelayernorm": {},
    "esm": {},
}
WHOLE: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},  # one block's weights run three times: there is no chain to cut
    "squeezebert": {"embedding_size": 32},  # calls layer.forward, so that nothing can stand in for a block
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    # its blocks are three lists of parts, and it drops values by a function between them
    "xlm": ({"emb_dim": 32, "n_layers": 3, "n_heads": 2, "n_words": 120}, "differ from fresh ones"),
    # a block takes and returns the scale of its numbers beside them
    "ibert": ({}, "cannot be replaced"),
}


@pytest.mark.parametrize("name", REPLAY)
def test_a_family_replays_from_every_cut(name: str, tmp_path: Path) -> None:
    backbone = loaded(name, REPLAY[name], tmp_path)
    assert len(backbone.blocks) == 3
    assert len(backbone.cuts) == (4 if len(backbone.stem) == 1 else 3)  # several modules have no one stand-in
    assert {replayed(backbone.model, cut) for cut in backbone.cuts} == {Verdict(True)}


@pytest.mark.parametrize("name", ["bert", "distilbert", "mpnet", "deberta-v2", "modernbert"])
def test_a_family_replays_under_its_native_head(name: str, tmp_path: Path) -> None:
    backbone = loaded(name, REPLAY[name], tmp_path, TextEncoder(head="native", attention="eager"))
    assert {replayed(backbone.model, cut) for cut in backbone.cuts} == {Verdict(True)}


@pytest.mark.parametrize("name", WHOLE)
def test_a_family_without_a_chain_is_cut_behind_its_body_alone(name: str, tmp_path: Path) -> None:
    backbone = loaded(name, WHOLE[name], tmp_path)
    assert backbone.blocks == ()
    assert [cut.name for cut in backbone.cuts] == ["features"]
    assert replayed(backbone.model, backbone.cuts[0]).holds


@pytest.mark.parametrize("name", REFUSED)
def test_a_family_that_cannot_replay_is_refused_with_a_reason(name: str, tmp_path: Path) -> None:
    config, reason = REFUSED[name]
    backbone = loaded(name, config, tmp_path)
    for cut in backbone.cuts:
        verdict = replayed(backbone.model, cut)
        assert verdict.holds if not isinstance(cut, ChainCut) else reason in verdict.reason


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_an_encoder_decoder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="encoder-decoder"):
        loaded(name, {}, tmp_path)


def test_a_model_that_needs_more_than_token_ids_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be loaded as a text encoder|token ids alone"):
        loaded("vit", {}, tmp_path)


@pytest.mark.parametrize("name", ["bert", "deberta-v2", "roformer", "canine"])
def test_the_tables_found_look_up_an_input_as_it_comes(name: str, tmp_path: Path) -> None:
    backbone = loaded(name, REPLAY.get(name, {}), tmp_path)
    for table, column in backbone.tables.items():
        assert column == "input_ids"
        assert backbone.model.get_submodule(table).weight.shape[0] == 120


@pytest.mark.parametrize("name", ["modernbert", "eurobert"])
def test_rotary_frequencies_stay_exact_in_bfloat16(name: str, tmp_path: Path) -> None:
    backbone = loaded(name, REPLAY[name], tmp_path)
    exact = {key: value.clone() for key, value in backbone.model.body.named_buffers() if key.endswith("inv_freq")}
    to_bfloat16(backbone.model.body)
    assert exact
    for key, value in exact.items():
        assert torch.equal(backbone.model.body.get_buffer(key), value)
    assert {parameter.dtype for parameter in backbone.model.body.parameters()} == {torch.bfloat16}
    assert backbone.model(input_ids=torch.tensor([[5, 6, 7]])).isfinite().all()


def test_the_arithmetic_differs_where_the_pooling_does(tmp_path: Path) -> None:
    found = []
    for mode in ("cls_token", "mean_tokens"):
        folder = tmp_path / mode
        loaded("bert", {}, folder)
        modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
        entries = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in modules]
        (folder / "modules.json").write_text(json.dumps(entries))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{mode}": True}))
        found.append(TextEncoder().load(folder, outputs=3, seed=0).arithmetic)
    native = TextEncoder(head="native").load(folder, outputs=3, seed=0).arithmetic
    eager = TextEncoder(attention="eager").load(folder, outputs=3, seed=0).arithmetic
    assert len({*found, native, eager}) == 4


class Scaled(torch.nn.Embedding):
    """A table whose look-up is more than a look-up."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return 2.0 * super().forward(ids)


def test_a_table_with_a_forward_of_its_own_is_never_reduced(tmp_path: Path) -> None:
    backbone = loaded("bert", {}, tmp_path)
    (name,) = backbone.tables
    old = backbone.model.get_submodule(name)
    put_module(backbone.model, name, Scaled(*old.weight.shape))
    assert name not in find_tables(backbone.model, probe_input())


def loaded(name: str, more: dict[str, Any], folder: Path, family: TextEncoder | None = None) -> Backbone:
    """A random model of a family, written to disk and loaded as any other."""
    from transformers import CONFIG_MAPPING, AutoModel

    config = CONFIG_MAPPING[name](**(NARROW | more))
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModel.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        model.save_pretrained(str(folder))
    return (family or TextEncoder()).load(folder, outputs=3, seed=0)


def replayed(model: HeadedModel, cut: Any) -> Verdict:
    """What ``verify`` says of a batch with padding, everything above the cut being trainable."""
    draw = torch.Generator().manual_seed(1)
    torch.nn.init.normal_(model.head.weight, generator=draw)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(name.startswith(f"{below}.") for below in cut.below))
    ids = torch.randint(5, 100, (3, 7), generator=draw)
    mask = torch.ones_like(ids)
    ids[1, 5:] = mask[1, 5:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    with torch.no_grad():
        held = cut.capture(model.eval(), inputs)
    batch = Batch(inputs, torch.zeros(3), torch.ones(3), torch.tensor([7, 5, 7]), np.arange(3), held)
    return verify(model, cut, batch, squares, seed=0)


def squares(outputs: torch.Tensor, batch: Batch) -> list[Term]:
    return [Term("squares", (outputs**2).sum(1) + outputs.sum(1), batch.weights)]


def test_a_native_head_that_reads_the_first_token_trims_the_last_block(tmp_path: Path) -> None:
    backbone = loaded("bert", REPLAY["bert"], tmp_path, TextEncoder(head="native", attention="eager"))
    seen: list[int] = []
    last = backbone.model.get_submodule(f"{backbone.blocks[-1]}.intermediate")
    last.register_forward_hook(lambda *io: seen.append(io[2].shape[1]))
    backbone.model(input_ids=torch.tensor([[1, 7, 8, 2]]))
    assert seen == [1]

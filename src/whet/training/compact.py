"""Embedding tables reduced to the rows that occur, while a stage trains them.

A row whose token never occurs has no gradient and, without weight decay on tables, no update: leaving it out gives
what dense AdamW gives, without carrying moments of 28,000 unused rows through every step. The whole table is put
back when the stage ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from whet.backbones.cut import put_module
from whet.data.ragged import Ragged
from whet.training.precision import Working


class CompactEmbedding(nn.Module):
    """Some rows of an embedding table, looked up by the ids of the whole table.

    Args:
        table: The whole table.
        rows: (R,) ids that are kept, ascending; others must not be looked up.

    Shapes:
        ids: any shape, int64. Returns (..., D).
    """

    place: Tensor

    def __init__(self, table: nn.Embedding, rows: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(table.weight.detach()[rows].clone())
        self.padding = None if table.padding_idx is None else int((rows == table.padding_idx).nonzero()[0, 0])
        place = torch.zeros(table.num_embeddings, dtype=torch.int64, device=rows.device)
        place[rows] = torch.arange(len(rows), device=rows.device)
        self.register_buffer("place", place, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(self.place[ids], self.weight, self.padding)


@contextmanager
def compacted(working: Working, tables: dict[str, str], inputs: list[dict[str, Ragged]]) -> Iterator[None]:
    """Inside, the tables hold only rows that occur in ``inputs``; afterwards they are whole again, with the updates.

    Args:
        tables: Module name of each trained table -> name of the input whose values it looks up.
    """
    models = [working.masters] if working.shared else [working.masters, working.live]
    whole: list[tuple[nn.Module, str, nn.Embedding, Tensor]] = []
    try:
        for name, column in tables.items():
            used = [np.unique(one[column].compact().values.astype(np.int64)) for one in inputs]
            padding = getattr(working.masters.get_submodule(name), "padding_idx", None)
            rows = torch.from_numpy(np.unique(np.concatenate([*used, [0 if padding is None else padding]])))
            for model in models:
                table = model.get_submodule(name)
                assert isinstance(table, nn.Embedding)
                rows = rows.to(table.weight.device)
                whole.append((model, name, table, rows))
                put_module(model, name, CompactEmbedding(table, rows))
        yield
    finally:
        with torch.no_grad():
            for owner, name, table, rows in whole:
                small = owner.get_submodule(name)
                assert isinstance(small, CompactEmbedding)
                table.weight[rows] = small.weight.detach()
                put_module(owner, name, table)

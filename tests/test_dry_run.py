"""What is measured before a run stands for the run, whatever the number of rows."""

import numpy as np
import pytest

from whet.dry_run import TIMED_TOKENS, timed_index


@pytest.mark.parametrize("lengths", [[5], [3, 9, 4], [1] * 700, [40] * 700, [TIMED_TOKENS], [9 * TIMED_TOKENS, 3]])
def test_a_forward_is_timed_on_as_many_tokens_however_few_rows_there_are(lengths: list[int]) -> None:
    sizes = np.array(lengths, np.int32)
    index = timed_index(sizes, TIMED_TOKENS)
    assert sizes[index].sum() >= TIMED_TOKENS
    assert sizes[index[:-1]].sum() < TIMED_TOKENS, "no example more than needed"


def test_examples_are_taken_in_their_order_and_again_only_when_all_were_taken() -> None:
    assert timed_index(np.array([TIMED_TOKENS // 2, TIMED_TOKENS // 2, 7]), TIMED_TOKENS).tolist() == [0, 1]
    assert timed_index(np.array([TIMED_TOKENS // 4, TIMED_TOKENS // 4]), TIMED_TOKENS).tolist() == [0, 1, 0, 1]

"""Law 3 under fire: 15 of the 60 faults, and some damaged checkpoints; ``make bench-faults`` runs all.

Every session draws its own seed. What fails names it, and the command that repeats it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults import damage, harness
from faults.harness import Harness
from faults.server import Server

SEED = harness.new_seed()
REPEAT = "repeat it with: python benchmarks/bench_faults.py --seed {} --only {}-{}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Harness]:
    server = Server()
    yield Harness(tmp_path_factory.mktemp("faults"), tiny_model, server)
    server.close()


@pytest.mark.parametrize("place", range(harness.PART))
def test_a_run_that_is_killed_and_resumed_gives_the_bytes_of_one_that_was_not(place: int, tiny: Harness) -> None:
    fault = harness.part_of(harness.faults(SEED))[place]
    try:
        outcome = tiny.try_fault(fault)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{REPEAT.format(SEED, 'kill', fault.number)}") from error
    assert min(outcome.codes) < 0, outcome


@pytest.mark.parametrize("place", range(len(damage.part_of(damage.damages(0)))))
def test_a_damaged_checkpoint_is_noticed_and_changes_nothing(place: int, tiny: Harness) -> None:
    wanted = damage.part_of(damage.damages(SEED))[place]
    try:
        damage.try_damage(tiny, wanted)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{REPEAT.format(SEED, 'damage', wanted.number)}") from error


def test_the_ladder_that_is_killed_climbs(tiny: Harness) -> None:
    """Else killing it would prove no more than killing the probe does."""
    assert tiny.reference("auto").ended.operations["checkpoint"] > 20


def test_the_faults_cover_every_method_and_every_kind_and_are_functions_of_their_seed() -> None:
    every = harness.faults(SEED)
    assert len(every) == harness.FAULTS
    assert every == harness.faults(SEED) != harness.faults(SEED + 1)
    for some in (every, harness.part_of(every)):
        assert len({fault.method for fault in some}) == min(len(some), len(harness.methods()))
        assert {kind for fault in some for kind in fault.kinds} == set(harness.KINDS)
    assert sum(fault.real for fault in every) == harness.REAL
    assert any(fault.real for fault in harness.part_of(every))
    assert {one.how for one in damage.damages(SEED)} == set(damage.HOWS)

"""The protocol holds in thousands of schedules, and the simulation notices when it is broken."""

import pytest

from tests.simulation import MUTATIONS, Simulation, seeds_until_caught, simulate

SCHEDULES = 2000
CHUNKS = 8


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_protocol_holds(chunk: int) -> None:
    """Replay a seed: python -m tests.simulation --seed SEED --trace."""
    size = SCHEDULES // CHUNKS
    outcomes = [simulate(seed) for seed in range(chunk * size, (chunk + 1) * size)]
    assert [(outcome.seed, outcome.violation) for outcome in outcomes if outcome.violation] == []
    # The schedules are not idle ones: workers were lost and zombies were fenced.
    assert sum(outcome.take_overs for outcome in outcomes) > size / 2
    assert sum(outcome.fenced for outcome in outcomes) > size / 20


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_variant_is_caught(name: str) -> None:
    caught = seeds_until_caught(name, limit=200)
    assert caught is not None, f"{name} survived 200 seeds"


def test_a_seed_replays_request_by_request() -> None:
    traces = []
    for seed in (11, 11, 12):
        simulation = Simulation(seed, trace=True)
        simulation.run()
        traces.append(simulation.world.trace)
    assert traces[0] == traces[1]
    assert traces[0] != traces[2]
    assert simulate(11).fingerprint == simulate(11).fingerprint

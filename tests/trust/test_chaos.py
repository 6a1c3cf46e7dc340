"""Kicks, returns, deaths and partitions in any order: in the end all that are left agree."""

import random

import pytest

from rain.claims import KeyPhase, KeyStep
from rain.model import NodeId
from tests.trust.pool import Pool, bundle, key, removal

NAMES = ("n1", "n2", "n3", "n4", "n5", "n6")
ADMINS = ("n1", "n2", "n3")


def start_the_missing(pool: Pool) -> None:
    for name in NAMES:
        if name not in pool.cores:
            pool.start(name)


@pytest.mark.parametrize("seed", range(20))
def test_all_that_are_left_agree(seed: int) -> None:
    dice = random.Random(seed)
    pool = Pool(NAMES, ADMINS, seed=seed)
    pool.start()
    kicked: set[str] = set()
    for number in range(2, 12):
        pool.run(dice.choice((1, 5, 40, 700, 3_000)))
        admins = [name for name in ADMINS if name in pool.cores]
        author, senior, subject = (
            dice.choice(admins),
            dice.choice(ADMINS[:2]),
            dice.choice(NAMES[2:]),
        )
        match dice.randrange(5):
            case 0 if len(kicked) < 2:
                kicked.add(subject)
                pool.claim(senior, removal(subject, 0), key(number, senior))
            case 1:
                pool.claim(author, KeyStep(1, KeyPhase.INSTALL), key(number, author))
            case 2 if subject in pool.cores:
                pool.stop(subject)
            case 3:
                pool.part(*dice.sample(NAMES, 3))
            case _:
                pool.heal()
                start_the_missing(pool)
        # Two admins that are up at all times hold what everybody needs.
        assert {"n1", "n2"} <= pool.cores.keys()

    pool.heal()
    start_the_missing(pool)
    pool.run(60_000)
    pool.stop(*(name for name in sorted(kicked) if name in pool.cores))
    removed = set(pool.cores["n1"].removals())
    assert removed == kicked
    assert pool.cores.keys() == set(NAMES) - removed
    assert pool.agree(), pool.rings()
    keys = {tuple(sorted(core.ring().keys)) for core in pool.cores.values()}
    assert keys == {(pool.cores["n1"].ring().use,)}, "the last rotation has run to its end"

    for name in sorted(removed):
        back = bundle(name, generation=pool.cores["n1"].next_generation(NodeId(name)))
        pool.show("n1", back)
    pool.run(1_000)
    assert all(
        {c.node_id for c in core.credentials()} == set(NAMES) for core in pool.cores.values()
    )

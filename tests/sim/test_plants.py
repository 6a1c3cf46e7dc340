"""Plants fit the product as it is, or this test says so."""

import pytest

import rain.model
from sim.planting import Misfit, Plant, mutated, sow
from sim.plants import PLANTS, plant_of

PLANTS_MIN = 45


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_every_plant_still_fits(plant: Plant) -> None:
    assert plant.old != plant.new
    compile(mutated(plant), plant.module, "exec")


def test_there_are_enough_and_no_two_are_alike() -> None:
    assert len(PLANTS) >= PLANTS_MIN
    assert len({plant.name for plant in PLANTS}) == len(PLANTS)
    assert plant_of(PLANTS[0].name) == PLANTS[0]
    assert plant_of("no such plant") is None


def test_a_plant_that_does_not_fit_or_comes_too_late_is_refused() -> None:
    with pytest.raises(Misfit, match="occurs 0 times"):
        mutated(Plant("rotten", "rain.model", "no such text", "", ""))
    assert rain.model.TASKS_MAX == 100_000
    with pytest.raises(Misfit, match="was imported before"):
        sow(Plant("late", "rain.model", "TASKS_MAX = 100_000", "TASKS_MAX = 1", ""))

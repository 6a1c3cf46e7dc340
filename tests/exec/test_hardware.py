"""What this PC has, and what its owner shares of it."""

import pytest

from rain.exec.hardware import gpu_reason, measure, share
from rain.model import Resources

WHOLE = Resources(8_000, 16 << 30)


def test_measuring_finds_this_machine() -> None:
    facts = measure()
    assert facts.capacity.cpus_milli >= 1_000
    assert facts.capacity.cpus_milli % 1_000 == 0
    assert facts.capacity.memory_bytes > 64 << 20
    assert facts.software
    assert facts.platform


def test_gpus_are_named_or_their_absence_has_a_reason() -> None:
    assert bool(measure().accelerators) == (gpu_reason() == "")


@pytest.mark.parametrize(
    ("cpus", "memory", "expected"),
    [
        ("", "", WHOLE),
        ("2", "4g", Resources(2_000, 4 << 30)),
        ("0.5", "512m", Resources(500, 512 << 20)),
        ("50%", "25%", Resources(4_000, 4 << 30)),
        ("12.5%", "100%", Resources(1_000, 16 << 30)),
        ("1.25", "1.5GiB", Resources(1_250, 3 << 29)),
        ("64", "1t", WHOLE),
        ("1", "1048576", Resources(1_000, 1 << 20)),
        ("1", "1048576b", Resources(1_000, 1 << 20)),
    ],
)
def test_shares(cpus: str, memory: str, expected: Resources) -> None:
    assert share(WHOLE, cpus, memory) == expected

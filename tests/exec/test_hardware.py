"""What this PC has."""

from rain.exec.hardware import gpu_reason, measure


def test_measuring_finds_this_machine() -> None:
    facts = measure()
    assert facts.capacity.cpus_milli >= 1_000
    assert facts.capacity.cpus_milli % 1_000 == 0
    assert facts.capacity.memory_bytes > 64 << 20
    assert facts.software
    assert facts.platform


def test_gpus_are_named_or_their_absence_has_a_reason() -> None:
    assert bool(measure().accelerators) == (gpu_reason() == "")

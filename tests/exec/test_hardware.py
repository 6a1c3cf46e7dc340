"""What this PC has."""

import threading

from rain.exec.hardware import Gpus, _Asking, gpu_reason, measure


def test_measuring_finds_this_machine() -> None:
    facts = measure()
    assert facts.capacity.cpus_milli >= 1_000
    assert facts.capacity.cpus_milli % 1_000 == 0
    assert facts.capacity.memory_bytes > 64 << 20
    assert facts.software
    assert facts.platform


def test_gpus_are_named_or_their_absence_has_a_reason() -> None:
    assert bool(measure().accelerators) == (gpu_reason() == "")


def test_a_driver_that_hangs_takes_one_thread_and_its_last_answer_stands() -> None:
    hangs, asked, models = threading.Event(), [], (("H200",), "")

    def ask() -> Gpus:
        asked.append(threading.current_thread())
        if len(asked) > 1:
            hangs.wait()
        return models

    asking = _Asking()
    assert asking.ask(ask, 5) == models
    assert [asking.ask(ask, 0.01) for _ in range(3)] == [models] * 3
    assert len(asked) == 2
    hangs.set()
    asked[1].join()
    assert asking.ask(ask, 5) == models
    assert len(asked) == 3


def test_a_driver_that_never_answered_has_no_answer() -> None:
    hangs = threading.Event()

    def ask() -> Gpus:
        hangs.wait()
        return (), ""

    assert _Asking().ask(ask, 0.01) is None
    hangs.set()

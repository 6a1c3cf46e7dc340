"""A line for the 1st, 2nd, 4th, 8th \u2026 refusal of each kind."""

from rain.agent import refusal_log as module
from rain.agent.refusal_log import Refusal, RefusalLog
from rain.log import Logger


def test_every_doubling_is_told_and_nothing_between(logger: Logger) -> None:
    counts = {"stranger": 0}
    log = RefusalLog(lambda: {"streams": counts}, logger)
    told = []
    for times in range(1, 20):
        counts["stranger"] = times
        told += log.news()
    assert told == [Refusal("streams", "stranger", times) for times in (1, 2, 4, 8, 16)]


def test_a_flood_between_two_looks_is_one_line(logger: Logger) -> None:
    counts = {"door_denied_wrong_code": 1}
    log = RefusalLog(lambda: {"door": counts, "packets": {"not_sealed": 5_000}}, logger)
    assert log.news() == [
        Refusal("packets", "not_sealed", 5_000),
        Refusal("door", "door_denied_wrong_code", 1),
    ]
    assert log.news() == []
    counts["door_denied_wrong_code"] = 700
    assert log.news() == [Refusal("door", "door_denied_wrong_code", 700)]


def test_what_is_no_refusal_or_logged_by_the_cores_is_not_told(logger: Logger) -> None:
    counts = {"packets": {"own": 4}, "streams": {"closed": 2}, "claims": {"job_not_authentic": 1}}
    assert RefusalLog(lambda: counts, logger).news() == []


def test_what_is_remembered_is_bounded(logger: Logger) -> None:
    counts = {f"reason {n}": 1 for n in range(2 * module.REASONS_MAX)}
    log = RefusalLog(lambda: {"packets": counts}, logger)
    log.news()
    assert len(log._known) == module.REASONS_MAX

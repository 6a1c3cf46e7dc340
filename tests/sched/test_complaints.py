from rain.effects import Log
from rain.model import Epoch, NodeId
from rain.sched.complaints import GRAVE, Complaints
from rain.sched.messages import Replicated

SENDER = NodeId("n1")
MESSAGE = Replicated(Epoch(1, SENDER, 7), 1)


def test_what_is_grave_is_told_ever_more_rarely_and_all_is_counted() -> None:
    worker: dict[str, int] = {}
    table = {"order_too_old": 3}
    complaints = Complaints(worker, table)
    times = []
    for _ in range(9):
        worker["not_its_attempt"] = worker.get("not_its_attempt", 0) + 1
        for log in complaints.about(SENDER, MESSAGE):
            assert isinstance(log, Log)
            times.append(dict(log.fields))
    assert [each["times"] for each in times] == [1, 2, 4, 8]
    assert times[0] == {
        "sender": SENDER,
        "kind": "Replicated",
        "reason": "not_its_attempt",
        "times": 1,
    }
    table["not_its_attempt"] = 1
    assert complaints.counts() == {"not_its_attempt": 10, "order_too_old": 3}


def test_the_weather_is_counted_and_not_told() -> None:
    table = {"order_too_old": 1, "cancel_by_unknown": 1}
    assert not table.keys() & set(GRAVE)
    assert Complaints(table).about(SENDER, MESSAGE) == []

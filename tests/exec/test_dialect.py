"""What the engine is asked for, and what its answers mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rain.effects import ContainerFound
from rain.exec import dialect
from rain.exec.labels import ATTEMPT_ID, decode_attempt_id, encode_attempt_id, is_key, labels_of
from rain.model import ID_CHARS_MAX, REASON_CHARS_MAX, AttemptId, Epoch, JobId, NodeId, Resources
from tests.exec.rig import LABELS, key_of, order

NODE_IDS = st.text(max_size=ID_CHARS_MAX).map(NodeId)

TASK = order("sh", "-c", "true", job="jobaaaa", image="alpine:3", need=Resources(1_500, 1 << 30))


def test_a_request_says_all_that_a_container_may_not_do() -> None:
    labels = labels_of(LABELS, TASK.attempt_id)
    surroundings = dialect.Surroundings("65534:65534", "none", image="alpine:3")
    assert dialect.container_request(LABELS, TASK, surroundings) == {
        "Image": "alpine:3",
        "Cmd": ["sh", "-c", "true"],
        "Env": [
            "RAIN_JOB_ID=jobaaaa",
            "RAIN_TASK_INDEX=0",
            "RAIN_ARRAY_SIZE=1",
            "RAIN_ATTEMPT=1",
            "RAIN_NODE_NAME=blue",
        ],
        "WorkingDir": "",
        "User": "65534:65534",
        "Labels": labels,
        "HostConfig": {
            "Init": True,
            "Privileged": False,
            "NetworkMode": "none",
            "IpcMode": "private",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Mounts": [],
            "PidsLimit": 512,
            "NanoCpus": 1_500_000_000,
            "CpuShares": 128,
            "Memory": 1 << 30,
            "MemorySwap": 1 << 30,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "20m", "max-file": "5"}},
        },
    }


def test_a_request_gives_what_was_asked_for() -> None:
    task = order(
        "true", image="a", workdir="/w", environment=(("A", "1"), ("RAIN_ATTEMPT", "forged")),
        private_environment=(("A", "0"), ("B", "2")), secrets=(("db.pass", b"hush"),),
    )  # fmt: skip
    mount = {"Type": "bind", "Source": "/x", "Target": "/y"}
    surroundings = dialect.Surroundings("1000", "rain-bridge", (mount,), "a:latest")
    request = dialect.container_request(LABELS, task, surroundings)
    assert (request["User"], request["WorkingDir"], request["Image"]) == ("1000", "/w", "a:latest")
    assert request["HostConfig"]["NetworkMode"] == "rain-bridge"
    assert request["HostConfig"]["Mounts"] == [mount]
    assert set(request["Env"]) > {
        "A=1", "B=2", "RAIN_ATTEMPT=1", "db_pass_FILE=/run/secrets/db.pass",
    }  # fmt: skip
    assert len(request["Env"]) == 8
    assert "hush" not in str(request)


def test_an_image_without_a_command_runs_its_own() -> None:
    surroundings = dialect.Surroundings("1:1", "none", image="a")
    assert dialect.container_request(LABELS, order(image="a"), surroundings)["Cmd"] is None


@given(
    st.builds(
        AttemptId,
        st.text(max_size=ID_CHARS_MAX).map(JobId),
        st.integers(0, 99_999),
        st.integers(0, 2**62),
        st.builds(
            Epoch,
            st.integers(0, 2**62),
            NODE_IDS,
            st.integers(0, 2**64 - 1),
        ),
        NODE_IDS,
    )
)
def test_an_attempt_is_known_again_by_its_label(attempt_id: AttemptId) -> None:
    assert decode_attempt_id(encode_attempt_id(attempt_id)) == attempt_id


@given(st.text())
def test_strange_labels_are_no_attempts(text: str) -> None:
    assert decode_attempt_id(text) is None


def test_labels_hold_the_whole_attempt() -> None:
    labels = labels_of(LABELS, TASK.attempt_id)
    assert decode_attempt_id(labels[ATTEMPT_ID]) == TASK.attempt_id
    assert is_key(key_of(TASK))


@pytest.mark.parametrize("text", ["", ".", "..", "../a", "a/b", "A", "a" * 129, "a\n"])
def test_what_is_no_key(text: str) -> None:
    assert not is_key(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1_000),
        ("2026-11-22T10:11:12.123456789Z", 1_795_342_272_123),
        ("2026-11-22T12:11:12.1+02:00", 1_795_342_272_100),
        ("0001-01-01T00:00:00Z", 0),
        ("2026-13-22T10:11:12Z", 0),
        ("", 0),
        ("yesterday", 0),
    ],
)
def test_instants(text: str, expected: int) -> None:
    assert dialect.unix_ms(text) == expected


def inspected(**state: object) -> dict[str, object]:
    return {
        "Config": {"Labels": {"rain.attempt": "a.0.1.ffffff"}},
        "State": {
            "Status": "exited",
            "Running": False,
            "ExitCode": 0,
            "OOMKilled": False,
            "StartedAt": "1970-01-01T00:00:01Z",
            "FinishedAt": "1970-01-01T00:00:03Z",
            **state,
        },
    }


def test_states() -> None:
    key = "a.0.1.ffffff"
    assert dialect.found_of(inspected()) == ContainerFound(key, 1_000, 0, False, 3_000)
    assert dialect.found_of(inspected(Running=True)) == ContainerFound(key, 1_000)
    assert dialect.found_of(inspected(Status="created")) is None
    killed = dialect.found_of(inspected(ExitCode=137, OOMKilled=True))
    assert killed == ContainerFound(key, 1_000, 137, True, 3_000)
    odd = dialect.found_of(inspected(ExitCode=-1, FinishedAt="0001-01-01T00:00:00Z"))
    assert odd == ContainerFound(key, 1_000, 255, False, 1_000)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('exec: "nope": executable file not found in $PATH: unknown', 127),
        ('exec: "/nope": stat /nope: no such file or directory: unknown', 127),
        ('exec: "/etc/passwd": permission denied: unknown', 126),
        ('exec: "/etc": is a directory: unknown', 126),
        ("cgroups: cannot find cgroup mount destination: unknown", 125),
    ],
)
def test_refusals_to_start_have_the_codes_of_docker_run(text: str, code: int) -> None:
    assert dialect.start_failure_code(text) == code


def wrapped(cause: BaseException) -> RuntimeError:
    """As the docker package does it: inside the arguments of another error's arguments."""
    return RuntimeError("Error while fetching server API version", OSError("aborted", cause))


def test_reasons_say_what_to_do_next() -> None:
    denied = dialect.unreachable_reason(wrapped(PermissionError(13, "denied")), True)
    absent = dialect.unreachable_reason(wrapped(FileNotFoundError(2, "none")), False)
    stopped = dialect.unreachable_reason(wrapped(FileNotFoundError(2, "none")), True)
    refused = dialect.unreachable_reason(wrapped(ConnectionRefusedError(111, "no")), True)
    odd = dialect.unreachable_reason(RuntimeError("x" * 9_999), True)
    assert "add this user to the docker group" in denied
    assert "no Docker engine is installed here; install one" in absent
    assert (
        stopped
        == refused
        == ("the Docker engine is not running; start it (sudo systemctl start docker)")
    )
    assert odd.endswith("try: docker info")
    long = dialect.no_image_reason("i" * 512, "because " * 999)
    for reason in (denied, absent, stopped, odd, long):
        assert 0 < len(reason) <= REASON_CHARS_MAX


def test_errors_that_caused_each_other_end() -> None:
    first, second = RuntimeError("first"), PermissionError("second")
    first.__cause__, second.__cause__ = second, first
    assert "docker group" in dialect.unreachable_reason(first, True)


@pytest.mark.parametrize(
    ("words", "is_it"),
    [
        ("unable to find user frank: no matching entries in passwd file", True),
        ("mkdir /bin/sh: not a directory: unknown", True),
        ("Cannot mkdir: /bin/sh is not a directory", True),
        ("OCI runtime create failed: no space left on device", False),
        ("failed to create shim task: context deadline exceeded", False),
    ],
)
def test_what_no_engine_would_start_is_the_jobs_fault(words: str, is_it: bool) -> None:
    assert dialect.is_about_the_job(words) is is_it

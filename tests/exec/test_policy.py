"""What an owner allows: nothing more, whatever a job calls it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rain.exec.policy import NETWORKS, OwnerPolicy, full_name, real_path
from rain.model import JobSpec


def spec(**fields: str) -> JobSpec:
    return JobSpec(("true",), **{"image": "python:3", **fields})  # type: ignore[arg-type]


def test_an_owner_who_said_nothing_lends_the_internet_and_any_image() -> None:
    policy = OwnerPolicy()
    assert [policy.refusal(spec(network=network)) for network in NETWORKS] == [
        "",
        "",
        "the owner of this PC does not allow --network host; they could: "
        "rain up --allow-network host",
    ]
    assert policy.refusal(spec(user="1000")) == (
        "the owner of this PC does not allow --user; they could: rain up --allow-user"
    )
    assert policy.volume_refusal("/srv", "/srv", ()) == (
        "the owner of this PC does not allow the folder /srv as a volume; they could: "
        "rain up --allow-volume /srv"
    )


def test_a_network_allows_the_lesser_ones() -> None:
    for most in range(3):
        policy = OwnerPolicy(network=NETWORKS[most])
        allowed = [not policy.refusal(spec(network=network)) for network in NETWORKS]
        assert allowed == [position <= most for position in range(3)]


def test_users_where_they_are_allowed() -> None:
    assert OwnerPolicy(allows_users=True).refusal(spec(user="0")) == ""


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3", "docker.io/library/python:3"),
        ("python@sha256:ab", "docker.io/library/python@sha256:ab"),
        ("me/tool", "docker.io/me/tool:latest"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("index.docker.io/me/tool:1", "docker.io/me/tool:1"),
        ("ghcr.io/me/tool", "ghcr.io/me/tool:latest"),
        ("localhost/tool", "localhost/tool:latest"),
        ("python:5000/evil", "python:5000/evil:latest"),
    ],
)
def test_names_are_completed_as_engines_do(image: str, name: str) -> None:
    assert full_name(image) == name
    assert full_name(name) == name


@pytest.mark.parametrize(
    ("pattern", "allowed", "refused"),
    [
        ("python", ("python", "python:3", "docker.io/library/python"), ("pythonx", "me/python")),
        ("python:*", ("python:3", "python"), ("python:5000/evil", "evil.io/python:3")),
        ("python:3.1?", ("python:3.12",), ("python:3.9", "python")),
        ("me/*", ("me/a", "me/a:1", "docker.io/me/b"), ("me", "you/a", "me:80/a", "evil.io/me/a")),
        ("ghcr.io/me/*", ("ghcr.io/me/a",), ("me/a", "ghcr.io/you/a")),
        ("*", ("a", "b/c:1", "d.e/f@sha256:0"), ()),
        ("*/tool", ("me/tool:2", "d.e/x/tool"), ("me/tools",)),
    ],
)
def test_patterns(pattern: str, allowed: tuple[str, ...], refused: tuple[str, ...]) -> None:
    policy = OwnerPolicy(images=(pattern,))
    assert [one for one in allowed if not policy.allows_image(one)] == []
    assert [one for one in refused if policy.allows_image(one)] == []
    for image in refused:
        assert f"rain up --allow-image {image}" in policy.refusal(spec(image=image))


@given(st.text("ab.:/@*1", max_size=12), st.text("ab.:/@1", max_size=12))
def test_a_literal_pattern_allows_its_own_image_and_never_another_registry(
    name: str, other: str
) -> None:
    policy = OwnerPolicy(images=(other,))
    if other and policy.allows_image(name):
        assert full_name(name).startswith(full_name(other).partition("/")[0])


def test_volumes_below_an_allowed_folder_but_not_beside_it(tmp_path: Path) -> None:
    lent, beside = tmp_path / "lent", tmp_path / "lent2"
    (lent / "data").mkdir(parents=True)
    beside.mkdir()
    (lent / "out").symlink_to(beside)
    (tmp_path / "alias").symlink_to(lent)
    policy = OwnerPolicy(volumes=(str(tmp_path / "alias"),))

    def refused(source: str) -> bool:
        return bool(policy.volume_refusal(source, real_path(source), ()))

    assert not refused(str(lent))
    assert not refused(f"{tmp_path}/alias/data/")
    for source in (beside, lent / "out", f"{lent}/data/../../lent2", tmp_path, "/", "/etc"):
        assert refused(str(source))


def test_what_is_never_lent(tmp_path: Path) -> None:
    own = tmp_path / "home/rain"
    own.mkdir(parents=True)
    engine = tmp_path / "sockets/docker.sock"
    policy = OwnerPolicy(volumes=("/", str(tmp_path)), private_folders=(str(own),))
    for source in ("/", "/proc", "/proc/1/root", "/sys/fs", "/dev", "/run", "/run/docker.sock",
                   "/var/run", "/var/lib/docker/x", str(own), str(own / "exec"),
                   str(own.parent), str(tmp_path), str(engine.parent)):  # fmt: skip
        reason = policy.volume_refusal(source, real_path(source), (str(engine),))
        assert reason, source
        if source != "/proc/1/root":  # where nobody but root may look
            assert reason.startswith(f"the folder {source} is never given to a task")
    (tmp_path / "fine").mkdir()
    assert policy.volume_refusal("x", str(tmp_path / "fine"), (str(engine),)) == ""

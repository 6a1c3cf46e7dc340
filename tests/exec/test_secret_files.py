"""Files of secrets: whose they are, where they lie, when they go."""

import os
import stat
from pathlib import Path

import pytest

from rain.exec.secret_files import SecretFiles, filesystem_of, numeric_user, refusal
from rain.model import JobSpec

SECRETS = (("key", b"\xffhush"), ("pass.word", b""))


def mode_of(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_each_file_belongs_to_the_user_of_the_task_alone(tmp_path: Path) -> None:
    files = SecretFiles("node", tmp_path / "disk", (str(tmp_path),))
    user = (65534, 65534) if os.getuid() == 0 else (os.getuid(), os.getgid())
    paths = dict(files.write("a.0.1", SECRETS, user))
    assert {name: Path(path).read_bytes() for name, path in paths.items()} == dict(SECRETS)
    assert paths["key"] == str(tmp_path / "rain-node/a.0.1/key")
    assert (mode_of(paths["key"]), os.stat(paths["key"]).st_uid) == (0o400, user[0])
    assert mode_of(files.folder) == mode_of(files.folder / "a.0.1") == 0o700
    files.clear("a.0.1")
    assert list(files.folder.iterdir()) == []
    files.clear("a.0.1")


def test_for_a_user_nobody_knows_the_folder_alone_keeps_others_out(tmp_path: Path) -> None:
    files = SecretFiles("node", tmp_path, ())
    ((_, path),) = files.write("a", SECRETS[:1], None)
    assert (mode_of(path), mode_of(files.folder / "a")) == (0o444, 0o700)


def test_no_secrets_make_no_folder(tmp_path: Path) -> None:
    assert SecretFiles("node", tmp_path / "disk", (str(tmp_path),)).write("a", (), None) == ()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_somebody_else_prepared_is_not_used(tmp_path: Path) -> None:
    shared, trap = tmp_path / "shared", tmp_path / "trap"
    shared.mkdir()
    trap.mkdir(mode=0o700)
    (shared / "rain-node").symlink_to(trap)
    files = SecretFiles("node", tmp_path / "disk", (str(shared),))
    assert files.folder == tmp_path / "disk"
    (shared / "rain-node").unlink()
    (shared / "rain-node").mkdir()
    (shared / "rain-node").chmod(0o755)
    assert SecretFiles("node", tmp_path / "disk", (str(shared),)).folder == tmp_path / "disk"


def test_what_an_earlier_agent_left_is_removed(tmp_path: Path) -> None:
    earlier = SecretFiles("node", tmp_path, ())
    for key in ("runs", "ended"):
        earlier.write(key, SECRETS, None)
    files = SecretFiles("node", tmp_path, ())
    files.write("starts", SECRETS, None)
    files.keep_only(["runs"])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["runs", "starts"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"secrets": (("../x", b""),)}, "has no name"),
        ({"secrets": (("a", b"hush"), ("a", b"hush"))}, "of another one"),
        ({"secrets": (("a", b"h" * 65_537),)}, "larger than 64 KiB"),
        ({"secrets": tuple((f"a{n}", b"") for n in range(65))}, "more than 64"),
        ({"environment": (("", "hush"),)}, "a variable"),
        ({"private_environment": (("A=B", "hush"),)}, "a variable"),
        ({"private_environment": (("A", "hush\0"),)}, "a variable"),
    ],
)
def test_what_no_task_can_be_given_is_said_without_its_words(
    fields: dict[str, tuple[tuple[str, str], ...]], words: str
) -> None:
    reason = refusal(JobSpec(("true",), **fields))  # type: ignore[arg-type]
    assert words in reason
    assert "hush" not in reason
    assert refusal(JobSpec(("true",), secrets=SECRETS, environment=(("A", "x=y"),))) == ""


def test_users_in_numbers() -> None:
    assert numeric_user("1000") == (1000, 0)
    assert numeric_user("1000:50") == (1000, 50)
    assert [numeric_user(text) for text in ("", "root", "1:2:3", "-1", "9999999999")] == [None] * 5


def test_filesystems() -> None:
    mounts = "/dev/sda / ext4 rw\ntmpfs /run tmpfs rw\n/dev/sdb /run/x ext4 rw\nbad\n"
    found = [filesystem_of(folder, mounts) for folder in ("/run", "/run/x/y", "/runner", "/")]
    assert found == ["tmpfs", "ext4", "ext4", "ext4"]

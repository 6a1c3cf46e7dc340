"""What people type and set: amounts, folders, and what a plain `rain up` remembers."""

import os
from pathlib import Path

import pytest

from rain import config, model
from rain.config import ArrayRange, ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1024", 1024),
        ("512m", 512 * 2**20),
        ("4g", 4 * 2**30),
        ("1.5GiB", 3 * 2**29),
        ("2TB", 2 * 2**40),
        ("7k", 7 * 2**10),
        ("10b", 10),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert config.parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "g", "-1g", "1x", "1 g b", "1.g", "9" * 20, "½g"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        config.parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90_000),
        ("0.5", 500),
        ("500ms", 500),
        ("10m", 600_000),
        ("1h30m", 5_400_000),
        ("2d", 172_800_000),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert config.parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "m", "1x", "h1", "1h 30m", "-5"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        config.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-99", ArrayRange(0, 1, 100, 0)),
        ("5-9:2", ArrayRange(5, 2, 3, 0)),
        ("0-9%4", ArrayRange(0, 1, 10, 4)),
        ("1-10:3%2", ArrayRange(1, 3, 4, 2)),
        ("7", ArrayRange(7, 1, 1, 0)),
        ("0-99999", ArrayRange(0, 1, 100_000, 0)),
    ],
)
def test_arrays_include_both_ends(text: str, expected: ArrayRange) -> None:
    assert config.parse_array(text) == expected


@pytest.mark.parametrize("text", ["", "5-4", "0-9:0", "0-9%0", "a-b", "-3", "0-100000", "0-9:2:3"])
def test_what_is_no_array_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        config.parse_array(text)


def test_the_bound_of_an_array_is_that_of_the_model() -> None:
    assert config.ARRAY_TASKS_MAX == model.TASKS_MAX


def test_cpus_and_shares() -> None:
    assert config.parse_cpus("0.5") == 500
    assert config.share_cpus_milli("3", 8_000) == 3_000
    assert config.share_cpus_milli("50%", 8_000) == 4_000
    assert config.share_memory_bytes("25%", 2**32) == 2**30
    assert config.share_memory_bytes("1g", 2**32) == 2**30
    for text in ("0%", "101%", "x%", "two"):
        with pytest.raises(ConfigError):
            config.share_cpus_milli(text, 8_000)


def test_contacts() -> None:
    assert config.parse_contact("studio-pc") == ("studio-pc", 7246)
    assert config.parse_contact("10.0.0.7:99") == ("10.0.0.7", 99)
    assert config.parse_contact("[fe80::1%eth0]:99") == ("fe80::1%eth0", 99)
    assert config.parse_contact("pc.attic.") == ("pc.attic.", 7246)
    no_names = ("a..b", ".", ".a", "x" * 64, "a." * 130)
    for text in ("", "a b", "host:0", "host:70000", "fe80::1", "http://host", *no_names):
        with pytest.raises(ConfigError):
            config.parse_contact(text)


# --- The data folder -----------------------------------------------------------------------------

MOUNTS = """\
proc /proc proc rw 0 0
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/ann/disk xfs rw 0 0
//nas/share /mnt/my\\040share cifs rw 0 0
tmpfs /home/ann/tmp tmpfs rw 0 0
ann@far: /home/ann/tmp fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/rain", "ext4"),
        ("/home/ann/.local/rain", "nfs4"),
        ("/home/ann/disk/rain", "xfs"),
        ("/homes", "ext4"),
        ("/mnt/my share/rain", "cifs"),
        ("/home/ann/tmp", "fuse.sshfs"),
    ],
)
def test_the_nearest_mount_tells_the_filesystem(path: str, expected: str) -> None:
    assert config.filesystem_of(Path(path), MOUNTS) == expected


def test_a_folder_on_the_network_is_refused_and_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "rain"
    with pytest.raises(ConfigError, match="network filesystem") as refused:
        config.open_data_dir(folder, f"server:/x {tmp_path} nfs4 rw 0 0\n")
    assert "--data-dir" in refused.value.hint
    assert not folder.exists()


def test_the_folder_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert config.open_data_dir(folder) == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    config.open_data_dir(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be made"):
        config.open_data_dir(tmp_path / "file")


def test_the_folder_given_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAIN_DATA_DIR", str(tmp_path / "env"))
    assert config.data_dir_of() == tmp_path / "env"
    assert config.data_dir_of(str(tmp_path / "given")) == tmp_path / "given"
    monkeypatch.delenv("RAIN_DATA_DIR")
    assert config.data_dir_of().name == f"pc-{config.machine_hash()}"


def test_a_long_path_gets_a_short_socket_in_a_private_folder(tmp_path: Path) -> None:
    short = Path("/tmp/x")
    assert config.control_path(short) == short / "control.sock"
    first = config.control_path(tmp_path / ("a" * 120))
    other = config.control_path(tmp_path / ("b" * 120))
    assert len(os.fsencode(first)) <= config.CONTROL_PATH_BYTES_MAX
    assert first != other
    assert first == config.control_path(tmp_path / ("a" * 120))
    assert first.parent.stat().st_mode & 0o777 == 0o700


# --- Options of up -------------------------------------------------------------------------------


def test_a_plain_up_uses_what_an_earlier_one_was_told(tmp_path: Path) -> None:
    told = {
        "name": "lab-3", "contacts": ("10.0.0.7",), "port": 7300, "cpus": "50%", "no_work": True,
        "executor": "both", "rank": 5, "bind": "127.0.0.1", "memory": "2g",
        "new": True, "pool": "attic",
    }  # fmt: skip
    first = config.up_options(tmp_path, told)
    config.remember(tmp_path, told)
    later = config.up_options(tmp_path, {}, is_terminal=True)
    assert (first.new, first.pool, later.new, later.pool) == (True, "attic", False, "")
    assert later.contacts == ("10.0.0.7",)
    assert (later.name, later.port, later.cpus, later.memory) == ("lab-3", 7300, "50%", "2g")
    assert (later.no_work, later.executor, later.rank) == (True, "both", 5)
    assert (later.bind, later.is_terminal) == ("127.0.0.1", True)


def test_the_number_of_copies_is_remembered_and_bounded(tmp_path: Path) -> None:
    assert config.up_options(tmp_path, {}).replicas == 3
    config.remember(tmp_path, {"replicas": 5})
    assert config.up_options(tmp_path, {}).replicas == 5
    for wrong in (0, 17):
        with pytest.raises(ConfigError, match="is no number of copies"):
            config.up_options(tmp_path, {"replicas": wrong})


def test_explicit_options_win_and_leave_the_rest(tmp_path: Path) -> None:
    config.remember(tmp_path, {"name": "lab-3", "no_work": True})
    config.remember(tmp_path, {"no_work": False})
    options = config.up_options(tmp_path, {"name": "other"})
    assert (options.name, options.no_work) == ("other", False)
    assert config.up_options(tmp_path, {}).name == "lab-3"


def test_a_token_is_never_remembered(tmp_path: Path) -> None:
    config.up_options(tmp_path, {"name": "pc"}, token="rain1-secret")
    config.remember(tmp_path, {"name": "pc", "token": "rain1-secret"})
    assert "secret" not in (tmp_path / "settings.json").read_text()


def test_damaged_settings_are_told_not_overwritten(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"port": "x"}'):
        (tmp_path / "settings.json").write_text(text)
        with pytest.raises(ConfigError, match=r"settings\.json"):
            config.up_options(tmp_path, {})
        with pytest.raises(ConfigError):
            config.remember(tmp_path, {"name": "pc"})
        assert (tmp_path / "settings.json").read_text() == text


@pytest.mark.parametrize(
    "explicit",
    [
        {"name": "two words"},
        {"name": "-x"},
        {"pool": "a/b"},
        {"executor": "podman"},
        {"port": 0},
        {"cpus": "many"},
        {"memory": "200%"},
        {"contacts": ("a b",)},
        {"contacts": tuple(f"pc{n}" for n in range(100))},
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, explicit: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        config.up_options(tmp_path, explicit)


def test_founding_and_joining_at_once_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--new"):
        config.up_options(tmp_path, {"new": True}, token="rain1-x")


def test_what_is_remembered_is_private_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        (tmp_path / "settings.json.new").touch()  # left by an older Rain that was interrupted
        config.remember(tmp_path, {"name": "lab-3"})
    finally:
        os.umask(umask)
    assert (tmp_path / "settings.json").stat().st_mode & 0o777 == 0o600
    assert config.up_options(tmp_path, {}).name == "lab-3"


def test_damaged_settings_are_told_in_words(tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text("{")
    with pytest.raises(ConfigError) as damaged:
        config.read_settings(tmp_path)
    assert damaged.value.message == f"{settings} cannot be read: it is damaged"
    settings.unlink()
    settings.mkdir()
    with pytest.raises(ConfigError) as folder:
        config.read_settings(tmp_path)
    assert folder.value.message == f"{settings} cannot be read: Is a directory"

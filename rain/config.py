"""What a person sets, read and checked at the edge: options of `rain up`, data folder, amounts.

The command line imports this file at every start, so it imports the standard library only, and
the heavier parts of that inside the functions that need them.
"""

import hashlib
import json
import os
import re
import socket
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

DEFAULT_PORT = 7246
CONTROL_PATH_BYTES_MAX = 100
"""A Unix socket's path may have 104 bytes on some platforms, the closing zero included."""
SETTINGS_BYTES_MAX = 64 * 1024
ENDED_FILE = "ended.json"
"""In the data folder: why the last agent ended by itself. {message, hint, at}"""
CONTACTS_MAX = 64
REPLICAS_DEFAULT = 3
REPLICAS_MAX = 16
TASK_CPUS_MILLI_MIN = 10
ARRAY_TASKS_MAX = 100_000
"""The same bound as rain.model.TASKS_MAX, which this light file does not import."""
_HOST_PATTERN = re.compile(r"(?=.{1,253}$)(?:[^.]{1,63}\.)*[^.]{1,63}\.?")
"""Labels with a dot between: what has an empty or a longer one is no name on any network."""
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
EXECUTORS = ("docker", "process", "both")
NETWORKS = ("none", "bridge", "host")
ALLOWED_MAX = 64
"""Patterns of images, or folders, that one owner allows."""
TASK_DISK_BYTES_MIN = 2**20
# fmt: off
NETWORK_FILESYSTEMS = (
    "9p", "afs", "beegfs", "ceph", "cifs", "davfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs",
    "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb", "smb2", "smb3",
    "smbfs",
)
# fmt: on

_SIZE_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_DURATION_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class ConfigError(Exception):
    """Something that a person typed or set cannot be used; `hint` says what to type instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class UpOptions:
    """Everything `rain up` was told, explicitly now or at an earlier start."""

    data_dir: Path
    name: str = ""
    new: bool = False
    pool: str = ""
    token: str = field(default="", repr=False)
    """A code or a join token; '' if none. A token never comes by argument or environment."""
    contacts: tuple[str, ...] = ()
    """HOST or HOST:PORT; see `parse_contact`."""
    bind: str = ""
    """'': all real interfaces."""
    port: int = DEFAULT_PORT
    cpus: str = ""
    """N or N%; '': the default share. See `share_cpus_milli`."""
    memory: str = ""
    no_work: bool = False
    executor: str = "docker"
    rank: int = 0
    is_terminal: bool = False
    allow_networks: tuple[str, ...] = ()
    """Of NETWORKS; the most of them counts. (): none and bridge."""
    allow_user: bool = False
    allow_images: tuple[str, ...] = ()
    """Patterns as of a shell; (): all images."""
    allow_volumes: tuple[str, ...] = ()
    """Folders that tasks may be given."""
    task_disk: str = ""
    replicas: int = REPLICAS_DEFAULT
    """On so many disks a job is before it is acknowledged, while this PC coordinates."""


REMEMBERED = (
    "name", "contacts", "bind", "port", "cpus", "memory", "no_work", "executor", "rank",
    "allow_networks", "allow_user", "allow_images", "allow_volumes", "task_disk",
    "replicas",
)  # fmt: skip
"""The options that describe this PC: a later plain `rain up` uses them again."""


# --- Amounts -------------------------------------------------------------------------------------


def parse_size(text: str) -> int:
    """Bytes: `512m`, `4g`, `1.5GiB`, `1024`. Units are powers of two."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?", text.strip().lower())
    if match is None:
        raise ConfigError(f"{text!r} is not a size", "sizes look like 512m or 4g")
    return int(_milli(match[1]) * _SIZE_UNITS[match[2]] // 1_000)


def parse_duration(text: str) -> int:
    """Milliseconds: `90` (seconds), `500ms`, `10m`, `1h30m`, `2d`."""
    lowered = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", lowered):
        return _milli(lowered)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", lowered)
    if not parts or "".join(number + unit for number, unit in parts) != lowered:
        raise ConfigError(f"{text!r} is not a duration", "durations look like 90s, 10m or 1h30m")
    return sum(_milli(number) * _DURATION_UNITS_MS[unit] // 1_000 for number, unit in parts)


def parse_cpus(text: str) -> int:
    """Thousandths of a CPU: `2`, `0.5`."""
    if not re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        raise ConfigError(f"{text!r} is not a number of CPUs", "write 2 or 0.5")
    return _milli(text.strip())


def parse_task_cpus(text: str) -> int:
    """What a task may ask for: an engine gives no less than a hundredth of a CPU."""
    milli = parse_cpus(text)
    if milli < TASK_CPUS_MILLI_MIN:
        raise ConfigError(f"{text!r} is too little for a task", "write 0.01 or more")
    return milli


def parse_user(text: str) -> str:
    """UID or UID:GID, in numbers: the names of another PC's users mean nothing here."""
    match = re.fullmatch(r"(\d{1,10})(?::(\d{1,10}))?", text.strip())
    if match is None or any(int(part) >= 2**31 for part in match.groups() if part):
        raise ConfigError(f"{text!r} is no user", "write UID or UID:GID, for example 1000:1000")
    return text.strip()


def share_cpus_milli(text: str, machine_cpus_milli: int) -> int:
    """What `rain up --cpus` offers of this machine: N, or N% of it."""
    percent = _percent(text)
    return parse_cpus(text) if percent is None else machine_cpus_milli * percent // 100_000


def share_memory_bytes(text: str, machine_memory_bytes: int) -> int:
    """What `rain up --memory` offers of this machine: a size, or N% of it."""
    percent = _percent(text)
    return parse_size(text) if percent is None else machine_memory_bytes * percent // 100_000


def _percent(text: str) -> int | None:
    """Thousandths of a percent; None where the text has no percent sign."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)%", text.strip())
    if match is None:
        return None
    milli = _milli(match[1])
    if not 0 < milli <= 100_000:
        raise ConfigError(f"{text!r} is not a share", "write a share from 1% to 100%")
    return milli


def _milli(number: str) -> int:
    """Thousandths of a decimal number, without a float between: digits beyond are cut."""
    whole, _, fraction = number.partition(".")
    if len(whole) > 15:
        raise ConfigError(f"{number} is too large", "write a smaller number")
    return int(whole) * 1_000 + int(fraction[:3].ljust(3, "0"))


@dataclass(frozen=True)
class ArrayRange:
    """`--array 0-99:2%10`: both ends included, every second, ten at a time."""

    start: int
    step: int
    tasks: int
    running_max: int


def parse_array(text: str) -> ArrayRange:
    """FIRST-LAST[:STEP][%MAX], both ends included; a single number is an array of one."""
    match = re.fullmatch(r"(\d{1,15})(?:-(\d{1,15}))?(?::(\d{1,9}))?(?:%(\d{1,9}))?", text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is not an array", "arrays look like 0-99, 0-99:2 or 0-99%10")
    start = int(match[1])
    last = start if match[2] is None else int(match[2])
    step = 1 if match[3] is None else int(match[3])
    running_max = 0 if match[4] is None else int(match[4])
    if last < start or step == 0 or (match[4] is not None and running_max == 0):
        raise ConfigError(
            f"{text!r} is an empty array", "FIRST-LAST[:STEP][%MAX], with FIRST <= LAST"
        )
    tasks = (last - start) // step + 1
    if tasks > ARRAY_TASKS_MAX:
        raise ConfigError(
            f"{text!r} has {tasks} tasks, more than {ARRAY_TASKS_MAX}", "submit it in several jobs"
        )
    return ArrayRange(start, step, tasks, running_max)


def parse_contact(text: str) -> tuple[str, int]:
    """HOST[:PORT] with IPv6 in brackets; the port is Rain's own when none is given."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.%\w]+)\]|([^:\[\]\s/]+))(?::(\d{1,5}))?", text.strip())
    is_host = match is not None and (match[1] or _HOST_PATTERN.fullmatch(match[2]))
    if match is None or not is_host or (match[3] and not 0 < int(match[3]) <= 65_535):
        raise ConfigError(
            f"{text!r} is not a contact", "contacts look like studio-pc or 10.0.0.7:7246"
        )
    return match[1] or match[2], int(match[3] or DEFAULT_PORT)


# --- Where things live ---------------------------------------------------------------------------


def data_dir_of(text: str = "") -> Path:
    """The data folder: as given, else RAIN_DATA_DIR, else this PC's own in the user's folder."""
    given = text or os.environ.get("RAIN_DATA_DIR", "")
    if given:
        return Path(given).expanduser().absolute()
    from platformdirs import user_data_path  # slow, and needed only where nothing was given

    return user_data_path("rain", appauthor=False) / f"pc-{machine_hash()}"


def machine_hash() -> str:
    """Ten characters of a hash of the machine's id: one home on many PCs, one folder for each."""
    return hashlib.blake2b(_machine_id().encode(), digest_size=5, person=b"rain-data").hexdigest()


def _machine_id() -> str:
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if text:
            return text
    import uuid  # macOS, Windows and small containers

    return f"{uuid.getnode():012x}"


def open_data_dir(path: Path, mounts: str | None = None) -> Path:
    """Make the data folder, private to this user; refuse one that several PCs would share."""
    filesystem = filesystem_of(path, _mounts() if mounts is None else mounts)
    if filesystem in NETWORK_FILESYSTEMS:
        raise ConfigError(
            f"the data folder {path} is on a network filesystem ({filesystem}), "
            "which other PCs may see too and where locks cannot be trusted",
            "give it a folder on a disk of this PC: rain --data-dir DIR up, or set RAIN_DATA_DIR",
        )
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"the data folder {path} cannot be made: {error.strerror}",
            "give another one: rain --data-dir DIR up",
        ) from error
    return path


def filesystem_of(path: Path, mounts: str) -> str:
    """The type of filesystem under `path` by the text of /proc/mounts; '' where it is unknown."""
    target = Path(os.path.realpath(path))
    best = ("", "")
    for line in mounts.splitlines():
        words = line.split(" ")
        if len(words) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), words[1])
        # A later mount on the same point hides the earlier one, hence >=.
        if target.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, words[2])
    return best[1]


def _mounts() -> str:
    try:
        return Path("/proc/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def control_path(data_dir: Path) -> Path:
    """The control socket of the agent on this data folder: the same for agent and client.

    A path too long for a socket is replaced by a short one that follows from it alone: neither
    TMPDIR nor XDG_RUNTIME_DIR may matter, since a cron job and a desktop have different ones.
    """
    path = data_dir.absolute() / "control.sock"
    if len(os.fsencode(path)) <= CONTROL_PATH_BYTES_MAX:
        return path
    digest = hashlib.blake2b(os.fsencode(path), digest_size=10).hexdigest()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "C:/")) / f"rain-{digest}.sock"
    return _private_folder(Path(f"/tmp/rain-{os.getuid()}")) / f"{digest}.sock"


def _private_folder(folder: Path) -> Path:
    """A folder that is ours alone: in /tmp anybody may have made one of that name before."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(
            f"{folder} is not a private folder of this user",
            "use a shorter data folder: rain --data-dir DIR",
        )
    return folder


# --- What an earlier start was told --------------------------------------------------------------


def up_options(
    data_dir: Path,
    explicit: Mapping[str, object],
    *,
    token: str = "",
    is_terminal: bool = False,
) -> UpOptions:
    """The options of this start: explicit ones over those of an earlier `up` over defaults."""
    known = {field.name for field in fields(UpOptions)}
    assert not set(explicit) - known, f"unknown options {sorted(set(explicit) - known)}"
    chosen: dict[str, object] = {**read_settings(data_dir), **explicit}
    options = UpOptions(
        data_dir=data_dir,
        name=str(chosen.get("name") or _host_name()),
        new=bool(chosen.get("new", False)),
        pool=str(chosen.get("pool", "")),
        token=token,
        contacts=_words(chosen.get("contacts")),
        bind=str(chosen.get("bind", "")),
        port=int(str(chosen.get("port", DEFAULT_PORT))),
        cpus=str(chosen.get("cpus", "")),
        memory=str(chosen.get("memory", "")),
        no_work=bool(chosen.get("no_work", False)),
        executor=str(chosen.get("executor", "docker")),
        rank=int(str(chosen.get("rank", 0))),
        is_terminal=is_terminal,
        allow_networks=_words(chosen.get("allow_networks")),
        allow_user=bool(chosen.get("allow_user", False)),
        allow_images=_words(chosen.get("allow_images")),
        allow_volumes=_words(chosen.get("allow_volumes")),
        task_disk=str(chosen.get("task_disk", "")),
        replicas=int(str(chosen.get("replicas", REPLICAS_DEFAULT))),
    )
    _check(options)
    _check_allowed(options)
    return options


def _words(given: object) -> tuple[str, ...]:
    """Without the empty one, by which a person takes back what was told earlier."""
    return tuple(str(word) for word in given if word) if isinstance(given, list | tuple) else ()


def _check(options: UpOptions) -> None:
    for word, text in (("--name", options.name), ("--pool", options.pool)):
        if text and NAME_PATTERN.fullmatch(text) is None:
            raise ConfigError(
                f"{word} {text!r} is not a name",
                "names have up to 63 letters, digits, dots, dashes and underscores",
            )
    if options.new and options.token:
        raise ConfigError(
            "--new founds a pool, --join-file joins one", "give one of the two, not both"
        )
    if options.executor not in EXECUTORS:
        raise ConfigError(f"--executor {options.executor!r} is unknown", "docker, process or both")
    if not 0 < options.port <= 65_535:
        raise ConfigError(f"--port {options.port} is no port", "a number from 1 to 65535")
    if not 0 < options.replicas <= REPLICAS_MAX:
        raise ConfigError(
            f"--replicas {options.replicas} is no number of copies", f"from 1 to {REPLICAS_MAX}"
        )
    if len(options.contacts) > CONTACTS_MAX:
        raise ConfigError(
            f"more than {CONTACTS_MAX} contacts", "a few are enough: they tell the rest"
        )
    if options.cpus:
        share_cpus_milli(options.cpus, 1_000)
    if options.memory:
        share_memory_bytes(options.memory, 1_000)
    for contact in options.contacts:
        parse_contact(contact)


def _check_allowed(options: UpOptions) -> None:
    """What the owner lets jobs do on this PC."""
    for network in options.allow_networks:
        if network not in NETWORKS:
            raise ConfigError(f"--allow-network {network!r} is unknown", "none, bridge or host")
    if max(len(options.allow_images), len(options.allow_volumes)) > ALLOWED_MAX:
        raise ConfigError(
            f"more than {ALLOWED_MAX} images or folders are allowed",
            "a pattern with * stands for many: --allow-image 'python:*'",
        )
    for folder in options.allow_volumes:
        if not folder.startswith("/") or os.path.realpath(folder) == "/":
            raise ConfigError(
                f"--allow-volume {folder!r} is no folder that could be lent",
                "write its whole path, for example --allow-volume /srv/datasets",
            )
    if options.task_disk and parse_size(options.task_disk) < TASK_DISK_BYTES_MIN:
        raise ConfigError(f"--task-disk {options.task_disk} is too little", "write 1m or more")


def login_name() -> str:
    """Who sits at this PC, as far as the system knows: the person of a pool founded here."""
    import getpass

    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        name = ""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)[:63].lstrip("._-") or "owner"


def _host_name() -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname().split(".")[0])[:63].lstrip("._-")
    return name or "pc"


def read_settings(data_dir: Path) -> dict[str, object]:
    """What an earlier `rain up` was told about this PC; {} at the first start."""
    path = data_dir / "settings.json"
    try:
        with path.open("rb") as file:
            text = file.read(SETTINGS_BYTES_MAX)
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("not an object")
        for name in ("port", "rank", "replicas"):
            int(str(found.get(name, 0)))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise ConfigError(
            f"{path} cannot be read: {why}", f"mend it or move it away: mv {path} {path}.bad"
        ) from error
    return {name: found[name] for name in REMEMBERED if name in found}


def remember(data_dir: Path, explicit: Mapping[str, object]) -> None:
    """Keep the explicit options that describe this PC for the next plain `rain up`."""
    chosen = {name: explicit[name] for name in REMEMBERED if name in explicit}
    if not chosen:
        return
    path = data_dir / "settings.json"
    fresh = data_dir / "settings.json.new"
    try:
        fresh.unlink(missing_ok=True)
        with open(fresh, "x", encoding="utf-8", opener=open_private) as file:
            json.dump({**read_settings(data_dir), **chosen}, file, indent=2, default=list)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}", "free some space on that disk"
        ) from error


def open_private(path: str, flags: int) -> int:
    """For this user alone, whatever the umask is."""
    return os.open(path, flags, 0o600)

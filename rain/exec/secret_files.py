"""The files of `--secret`: for one attempt alone, in memory where the system has such a folder.

Each attempt has a folder of its own, which only the agent's user can enter; the files in it belong
to the user that the task runs as. A container gets each file mounted by itself: then it stays
readable if a logout empties the folder. They are removed when the attempt has ended.
"""

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from rain.exec.labels import is_key
from rain.model import JobSpec

SECRETS_MAX = 64
SECRETS_BYTES_MAX = 64 * 1024
"""Of one job, all together."""
SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
MEMORY_FILESYSTEMS = ("tmpfs", "ramfs")
ID_MAX = 2**31

Secrets = tuple[tuple[str, bytes], ...]


def refusal(spec: JobSpec) -> str:
    """Why the private words of a job cannot be used; it never says what they are."""
    if len(spec.secrets) > SECRETS_MAX:
        return f"the job has more than {SECRETS_MAX} secrets"
    if sum(len(content) for _, content in spec.secrets) > SECRETS_BYTES_MAX:
        return f"the job's secrets are larger than {SECRETS_BYTES_MAX // 1024} KiB together"
    names = [name for name, _ in spec.secrets]
    if not all(SECRET_NAME.fullmatch(name) for name in names) or len(set(names)) < len(names):
        return "a secret of the job has no name that a file can have, or that of another one"
    for name, value in (*spec.environment, *spec.private_environment):
        if not name or "=" in name or "\0" in name + value:
            return "a variable of the job has a name or a value that no program can be given"
    return ""


def numeric_user(user: str) -> tuple[int, int] | None:
    """(uid, gid) of UID or UID:GID; None for the names that only an image knows."""
    match = re.fullmatch(r"(\d{1,10})(?::(\d{1,10}))?", user)
    if match is None:
        return None
    uid = int(match[1])
    gid = int(match[2]) if match[2] else 0
    return (uid, gid) if max(uid, gid) < ID_MAX else None


class SecretFiles:
    """The secrets of the attempts that run here."""

    def __init__(self, node_id: str, fallback: Path, roots: tuple[str, ...] | None = None) -> None:
        self._node_id = node_id
        self._fallback = fallback
        self._roots = _memory_roots() if roots is None else roots
        self._folder: Path | None = None
        self._own: set[str] = set()
        """Attempts whose files were written here, and not yet cleared."""

    @property
    def folder(self) -> Path:
        """Where they lie; made when it is first asked for."""
        if self._folder is None or not _is_private(self._folder):
            self._folder = self._made()
        return self._folder

    def _made(self) -> Path:
        for root in self._roots:
            folder = Path(root) / f"rain-{self._node_id}"
            with suppress(OSError):
                folder.mkdir(mode=0o700, exist_ok=True)
            # In a folder for everybody, somebody else may have made one of that name before.
            if _is_private(folder):
                return folder
        self._fallback.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._fallback

    def write(
        self, key: str, secrets: Secrets, user: tuple[int, int] | None
    ) -> tuple[tuple[str, str], ...]:
        """The name and the path of each file, readable by this user alone.

        None, or a user whom this one may not give a file: readable by whoever is shown the file,
        which is the one container that it is mounted into.
        """
        if not secrets:
            return ()
        self._own.add(key)
        folder = self.folder / key
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        return write_files(folder, secrets, user)

    def clear(self, key: str) -> None:
        """Not an error where there are none."""
        if self._folder is not None and is_key(key):
            shutil.rmtree(self._folder / key, ignore_errors=True)
        self._own.discard(key)

    def close(self) -> None:
        """Leave no empty folder behind; what runs keeps its own."""
        with suppress(OSError):
            if self._folder is not None:
                self._folder.rmdir()

    def keep_only(self, keys: Iterable[str]) -> None:
        """Remove what an agent before this one left, but for these attempts."""
        kept = set(keys)
        with suppress(OSError):
            for entry in sorted(self.folder.iterdir()):
                if entry.name not in kept and entry.name not in self._own:
                    shutil.rmtree(entry, ignore_errors=True)


def write_files(
    folder: Path, secrets: Secrets, user: tuple[int, int] | None
) -> tuple[tuple[str, str], ...]:
    """The name and the path of each file that was made in this folder."""
    paths: list[tuple[str, str]] = []
    for name, content in secrets:
        path = folder / name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        with open(os.open(path, flags, 0o600), "wb") as file:
            file.write(content)
            _give(file.fileno(), user)
        paths.append((name, str(path)))
    return tuple(paths)


def _give(descriptor: int, user: tuple[int, int] | None) -> None:
    if not hasattr(os, "fchown"):
        return
    mode = 0o400
    try:
        if user is None:
            mode = 0o444
        elif user[0] != os.getuid():
            os.fchown(descriptor, *user)
    except PermissionError:
        mode = 0o444
    os.fchmod(descriptor, mode)


def _is_private(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    is_folder = (found.st_mode & 0o170777) == 0o040700
    return is_folder and (not hasattr(os, "getuid") or found.st_uid == os.getuid())


def _memory_roots() -> tuple[str, ...]:
    """Folders of this system that live in memory and that this user may write to."""
    if not hasattr(os, "getuid"):
        return ()
    uid = os.getuid()
    candidates = ("/run" if uid == 0 else f"/run/user/{uid}", "/dev/shm")
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="replace")
    except OSError:
        return ()
    return tuple(one for one in candidates if filesystem_of(one, mounts) in MEMORY_FILESYSTEMS)


def filesystem_of(folder: str, mounts: str) -> str:
    """The type of filesystem that a folder is on, by the text of /proc/self/mounts."""
    best = ("", "")
    for line in mounts.splitlines():
        words = line.split(" ")
        if len(words) < 3 or not Path(folder).is_relative_to(words[1]):
            continue
        if len(words[1]) >= len(best[0]):  # a later mount hides the earlier one
            best = (words[1], words[2])
    return best[1]

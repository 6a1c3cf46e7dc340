"""Whether a disk is full, and whom it is to blame for.

What a task cannot write because others have filled the disk is not its failure: it is given back,
and runs where there is room. A task that fills the disk itself looks the same from outside, so one
PC gives the same task back a few times only; then its end counts as it is.
"""

import os
import sys
from pathlib import Path

from rain.model import AttemptId, JobId

FULL_BYTES = 1024 * 1024
FREED_BYTES = 16 * 1024 * 1024
"""A disk that was full has room again with so much: at the border nothing changes to and fro."""
FULL_FILES = 16
GIVEN_BACK_MAX = 3
"""Times that one PC gives a task back."""
REMEMBERED_MAX = 1_000
"""Tasks that were given back; beyond it the oldest is forgotten, and may be given back again."""


class FullDisk:
    """The disk that a folder is on."""

    def __init__(
        self,
        folder: Path,
        full_bytes: int = FULL_BYTES,
        freed_bytes: int = FREED_BYTES,
        remembered_max: int = REMEMBERED_MAX,
    ) -> None:
        self._folder = folder
        self._full_bytes = full_bytes
        self._freed_bytes = freed_bytes
        self._remembered_max = remembered_max
        self._was_full = False
        self._given_back: dict[tuple[JobId, int], int] = {}

    def is_full(self) -> bool:
        """Whether next to nothing can be written; False where nobody can tell."""
        bytes_min = self._freed_bytes if self._was_full else self._full_bytes
        self._was_full = _has_less(self._folder, bytes_min)
        return self._was_full

    def is_to_blame(self, attempt_id: AttemptId) -> bool:
        """That attempt has failed: is it to be given back? It counts as given back then."""
        if not _has_less(self._folder, self._full_bytes):
            return False
        task = attempt_id.job_id, attempt_id.task
        times = self._given_back.get(task, 0)
        if times >= GIVEN_BACK_MAX:
            return False
        self._given_back[task] = times + 1
        if len(self._given_back) > self._remembered_max:
            del self._given_back[next(iter(self._given_back))]
        return True


def _has_less(folder: Path, bytes_min: int) -> bool:
    if sys.platform == "win32":
        return False
    try:
        told = os.statvfs(folder)
    except OSError:
        return False
    # Some blocks are kept for root; what has no fixed number of files tells 0 of 0.
    is_root = os.geteuid() == 0
    free_bytes = (told.f_bfree if is_root else told.f_bavail) * told.f_frsize
    free_files = told.f_ffree if is_root else told.f_favail
    return free_bytes < bytes_min or (told.f_files > 0 and free_files < FULL_FILES)

"""What of this PC an attempt's container gets to see: a user, a network, folders, secrets.

Whatever is asked for passes the owner's policy here, at the worker, each time. Everything blocks:
it is for the executor's threads.
"""

import os
import posixpath
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rain.exec import bridge, secret_files
from rain.exec.dialect import EXIT_RAIN_FAILED, Surroundings, clipped
from rain.exec.engine import Engine, NotStarted
from rain.exec.labels import IN_CONTAINER
from rain.exec.policy import NETWORKS, OwnerPolicy, full_name, real_path
from rain.exec.secret_files import SecretFiles, numeric_user
from rain.model import JobSpec, Volume

VOLUMES_MAX = 32
NOBODY = "65534:65534"
SYSTEM_TARGETS = ("/proc", "/sys", "/dev", IN_CONTAINER)
"""In a container: what no volume may cover."""


class Premises:
    """Lends parts of this PC to attempts and takes them back."""

    def __init__(self, engine: Engine, policy: OwnerPolicy, node_id: str, folder: Path) -> None:
        self._engine = engine
        self._policy = policy
        self._secrets = SecretFiles(node_id, folder / "secrets")
        self._fence = bridge.Fence()
        self._lock = threading.Lock()
        self._maps_users: bool | None = None
        self._note = ""

    @property
    def note(self) -> str:
        """What the owner should know of tasks on the bridge; empty: private addresses are blocked,
        or no task gets on the bridge."""
        if self._policy.network == "none" or not self._note:
            return ""
        return f"tasks with --network bridge can reach private addresses: {self._note}"

    def inspect(self) -> None:
        """At the start, and when the engine is back: can its tasks be fenced off?"""
        self._note = self._fence.why_not(self._engine.pid())

    def prepare(self, key: str, spec: JobSpec) -> Surroundings:
        """All that this attempt gets; NotStarted where it may not have it, or EngineGone."""
        _check(spec)
        if reason := self._policy.refusal(spec):
            raise NotStarted(EXIT_RAIN_FAILED, clipped(reason), refused=True)
        mounts = [self._volume(volume) for volume in spec.volumes]
        user = spec.user or owner()
        network = spec.network
        if network == "bridge":
            network = self._bridge()
        mounts += [
            _mount(path, f"{IN_CONTAINER}/{name}", True)
            for name, path in self._write_secrets(key, spec, user)
        ]
        # Where only some images are allowed, the short name of one must not be another's id.
        image = full_name(spec.image) if self._policy.images else spec.image
        return Surroundings(user, network, tuple(mounts), image)

    def clear(self, key: str) -> None:
        self._secrets.clear(key)

    def close(self) -> None:
        self._secrets.close()

    def keep_only(self, keys: Iterable[str]) -> None:
        self._secrets.keep_only(keys)

    def _write_secrets(self, key: str, spec: JobSpec, user: str) -> tuple[tuple[str, str], ...]:
        if spec.secrets and not self._engine.is_local():
            reason = "the engine is on another machine, where the job's secrets cannot be put"
            raise NotStarted(EXIT_RAIN_FAILED, reason, refused=True)
        if spec.secrets and self._maps_users is None:
            self._maps_users = self._engine.maps_users()
        reader = None if self._maps_users else numeric_user(user)
        try:
            return self._secrets.write(key, spec.secrets, reader)
        except OSError as error:
            self.clear(key)
            reason = f"the job's secrets could not be written here: {error.strerror}"
            raise NotStarted(EXIT_RAIN_FAILED, reason, refused=True) from None

    def _volume(self, volume: Volume) -> dict[str, Any]:
        target = posixpath.normpath(volume.target)
        if not volume.source.startswith("/") or not volume.target.startswith("/"):
            raise NotStarted(EXIT_RAIN_FAILED, "a volume is /FOLDER/HERE:/FOLDER/THERE")
        covers = any(target == one or target.startswith(f"{one}/") for one in SYSTEM_TARGETS)
        if covers or target in ("/", "//", "/run") or ".." in volume.target.split("/"):
            reason = clipped(f"a volume cannot be at {volume.target} in a container")
            raise NotStarted(EXIT_RAIN_FAILED, reason)
        # What is checked is what the engine is told, so a link that changes later leads nowhere
        # new. One gap is left: a task that writes to a lent folder may swap a folder below it for
        # a link in the moment before the engine mounts that one for another task.
        real = real_path(volume.source)
        private = (*self._engine.sockets(), str(self._secrets.folder))
        reason = self._policy.volume_refusal(volume.source, real, private)
        if not reason and (real is None or not os.path.isdir(real)):
            reason = f"there is no folder {volume.source} on this PC"
        if reason or real is None:
            raise NotStarted(EXIT_RAIN_FAILED, clipped(reason), refused=True)
        return _mount(real, target, volume.read_only)

    def _bridge(self) -> str:
        """The name of the engine's network, which is there and fenced off where that can be."""
        with self._lock:
            if reason := self._engine.make_network(bridge.BRIDGE, bridge.network_request()):
                reason = clipped(f"the network {bridge.BRIDGE} could not be made: {reason}")
                raise NotStarted(EXIT_RAIN_FAILED, reason, refused=True)
            self._note = self._fence.why_not(self._engine.pid()) or self._fence.put_up()
        return bridge.BRIDGE


def _check(spec: JobSpec) -> None:
    """What no node could start is the job's own fault."""
    reason = secret_files.refusal(spec)
    if spec.network not in NETWORKS:
        reason = clipped(f"no network is called {spec.network!r}")
    elif not spec.image:
        reason = "the job names no image; use --image"
    elif len(spec.volumes) > VOLUMES_MAX:
        reason = f"the job has more than {VOLUMES_MAX} volumes"
    if reason:
        raise NotStarted(EXIT_RAIN_FAILED, reason)


def owner() -> str:
    """Who a task runs as unless it asks: the agent's owner, and nobody where that is root."""
    if not hasattr(os, "getuid") or os.getuid() == 0:
        return NOBODY
    return f"{os.getuid()}:{os.getgid()}"


def _mount(source: str, target: str, read_only: bool) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }

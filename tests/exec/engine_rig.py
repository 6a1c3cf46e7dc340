"""An executor on a real engine, with a look at the engine beside it."""

from pathlib import Path
from typing import Any

import docker

from rain.exec.containers import DockerExecutor
from rain.exec.labels import ExecLabels
from rain.exec.policy import OwnerPolicy
from tests.exec.rig import LABELS, Reports


class Rig:
    """One executor on the engine, with a look at the engine beside it."""

    def __init__(self, host: str, folder: Path) -> None:
        self.folder = folder
        self.reports = Reports()
        self.states: list[str] = []
        self.executor = self.another()
        self.client = docker.APIClient(base_url=host)

    def another(
        self, labels: ExecLabels = LABELS, policy: OwnerPolicy | None = None
    ) -> DockerExecutor:
        return DockerExecutor(labels, self.folder, self.reports, self.states.append, policy)

    async def allow(self, **allowed: Any) -> None:
        """The same PC under an owner who allows this."""
        await self.executor.close()
        self.executor = self.another(policy=OwnerPolicy(**allowed))
        assert await self.executor.open() == ""

    def inspect(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.inspect_container(f"rain-{key}")
        return found

    def names(self) -> list[str]:
        filters = {"label": f"rain.node_id={LABELS.node_id}"}
        return [c["Names"][0][1:] for c in self.client.containers(all=True, filters=filters)]

    def remove_all(self) -> None:
        for name in self.names():
            self.client.remove_container(name, force=True, v=True)


async def text_of(executor: DockerExecutor, key: str, follow: bool = False) -> dict[int, str]:
    printed: dict[int, bytes] = {1: b"", 2: b""}
    async for stream, content in executor.logs(key, follow):
        printed[stream] += content
    return {stream: content.decode() for stream, content in printed.items()}

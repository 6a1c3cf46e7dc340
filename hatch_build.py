"""The wheel ships the simulator as rain.sim; an editable install finds sim beside rain."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShipSimulator(BuildHookInterface):  # type: ignore[type-arg]
    """Without it an editable install would hold a copy that grows old."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"]["sim"] = "rain/sim"

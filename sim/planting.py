"""How a planted bug gets into the product: its module's text is changed while it is imported.

Nothing on disk changes. A plant must be sown before the product is imported, in a process of its
own; and its text must occur exactly once, so that a plant that no longer fits fails loudly.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple


class Plant(NamedTuple):
    """One bug: in this module, this text instead of that."""

    name: str
    module: str
    old: str
    new: str
    breaks: str
    """Which rule it takes away."""


class Misfit(Exception):
    """The plant does not fit the product any more, or comes too late."""


def source_of(module: str) -> str:
    """The text of a module, found without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise Misfit(f"there is no module {module}")
    return Path(spec.origin).read_text(encoding="utf-8")


def mutated(plant: Plant) -> str:
    source = source_of(plant.module)
    found = source.count(plant.old)
    if found != 1:
        raise Misfit(f"plant {plant.name}: its text occurs {found} times in {plant.module}")
    return source.replace(plant.old, plant.new)


class _Soil(MetaPathFinder, Loader):
    """Finds and loads the one module that carries the plant."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._source = mutated(plant)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != self._plant.module:
            return None
        return ModuleSpec(fullname, self, origin=f"<plant {self._plant.name}>")

    def exec_module(self, module: ModuleType) -> None:
        code = compile(self._source, f"<plant {self._plant.name}>", "exec")
        exec(code, module.__dict__)  # the very point of a plant


_sown: list[Plant] = []


def sow(plant: Plant) -> None:
    """From now on this process imports the product with that bug."""
    if plant in _sown:
        return
    if plant.module in sys.modules:
        raise Misfit(f"{plant.module} was imported before plant {plant.name} was sown")
    sys.meta_path.insert(0, _Soil(plant))
    _sown.append(plant)

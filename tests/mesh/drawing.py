"""Any value of a type, by dice alone: quick and repeatable, where rig.py lets hypothesis search."""

import random
from enum import Enum
from types import UnionType
from typing import Annotated, Any, NewType, Union, get_args, get_origin, get_type_hints

from rain.model import OrderedValue, Value

NUMBERS = (0, 1, 2, 100, 255, 65_535, 2**31, 2**62, 2**63 - 1, -1, -(2**63))
LETTERS = "abc-_ 09äß漢🙂\n\x1b"
LENGTH_MAX = 24


def draw(kind: Any, rng: random.Random) -> Any:
    """A value of that type within the bounds that the type itself states."""
    bounds: dict[str, int] = {}
    while isinstance(kind, NewType) or get_origin(kind) is Annotated:
        if isinstance(kind, NewType):
            kind = kind.__supertype__
            continue
        kind, *marks = get_args(kind)
        for mark in marks:
            for bound in ("ge", "le", "lt", "max_length", "min_length"):
                if getattr(mark, bound, None) is not None:
                    bounds[bound] = getattr(mark, bound)
    length = rng.randrange(min(bounds.get("max_length", LENGTH_MAX), LENGTH_MAX) + 1)
    if kind is bool:
        return rng.random() < 0.5
    if kind is int:
        least, most = bounds.get("ge", -(2**63)), bounds.get("le", bounds.get("lt", 2**63) - 1)
        return rng.choice([n for n in NUMBERS if least <= n <= most])
    if kind is str:
        return "".join(rng.choice(LETTERS) for _ in range(length))
    if kind is bytes:
        return rng.randbytes(length)
    if kind is type(None):
        return None
    if isinstance(kind, type) and issubclass(kind, Enum):
        return rng.choice(list(kind))
    if isinstance(kind, type) and issubclass(kind, Value | OrderedValue):
        hints = get_type_hints(kind, include_extras=True)
        return kind(**{name: draw(hints[name], rng) for name in kind.__struct_fields__})
    return _draw_of(kind, rng, bounds.get("max_length", LENGTH_MAX))


def _draw_of(kind: Any, rng: random.Random, length_max: int) -> Any:
    arguments = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return draw(rng.choice(arguments), rng)
    assert get_origin(kind) is tuple, f"nothing is known of {kind}"
    if arguments[-1] is Ellipsis:
        return tuple(draw(arguments[0], rng) for _ in range(min(rng.randrange(4), length_max)))
    return tuple(draw(each, rng) for each in arguments)

"""Bodies by the type they are of: full of small elements, or with an id of any length, wherever
the type has room for such.
"""

from collections.abc import Iterator
from enum import Enum
from types import UnionType
from typing import Annotated, Any, NewType, Union, get_args, get_origin, get_type_hints

import msgpack

from rain.model import JobId, NodeId, OrderedValue, Value

BARE: dict[type, Any] = {int: 0, str: "", bytes: b"", bool: False, type(None): None}


def stuffed(kind: Any, room_bytes: int) -> Iterator[tuple[str, bytes]]:
    """For each array in a value of this type: where it is, and that value with it filled up."""
    kind, bounds = _without_bounds(kind)
    if get_origin(kind) in (Union, UnionType):
        for each in get_args(kind):
            yield from stuffed(each, room_bytes)
    elif _is_struct(kind) or get_origin(kind) is tuple:
        if get_args(kind)[1:] == (Ellipsis,):
            yield from _stuffed_array(kind, bounds, room_bytes)
        else:
            yield from _stuffed_fields(kind, room_bytes)


def with_id(kind: Any, chars: int) -> Iterator[tuple[str, bytes]]:
    """For each id in a value of this type: where it is, and that value with one so long."""
    if kind in (NodeId, JobId):
        yield "", packb("x" * chars)
        return
    kind, _ = _without_bounds(kind)
    if get_origin(kind) in (Union, UnionType):
        for each in get_args(kind):
            yield from with_id(each, chars)
    elif get_args(kind)[1:] == (Ellipsis,):
        for where, packed in with_id(get_args(kind)[0], chars):
            yield f"[]{where}", b"\x91" + packed
    elif _is_struct(kind) or get_origin(kind) is tuple:
        fields = _fields(kind)
        smallest = [_smallest(each) for each in fields.values()]
        for at, (name, each) in enumerate(fields.items()):
            for where, packed in with_id(each, chars):
                yield f".{name}{where}", _array(kind, [*smallest[:at], packed, *smallest[at + 1 :]])


def largest(kind: Any) -> Any:
    """The value of this type that takes the most bytes."""
    kind, bounds = _without_bounds(kind)
    if _is_struct(kind):
        return kind(*(largest(each) for each in _fields(kind).values()))
    match kind():
        case bool():
            return True
        case int():
            return bounds.get("le", 2**64 - 1)
        case str():
            return "🙂" * bounds["max_length"]
        case bytes():
            return bytes(bounds["max_length"])
        case _:
            raise AssertionError(f"how large {kind} may be is not said here")


def _stuffed_array(
    kind: Any, bounds: dict[str, int], room_bytes: int
) -> Iterator[tuple[str, bytes]]:
    element = get_args(kind)[0]
    for where, packed in [("", _smallest(element)), *stuffed(element, room_bytes - 8)]:
        count = min(bounds.get("max_length", room_bytes), (room_bytes - 8) // len(packed))
        yield f"[]{where}", b"\xdd" + count.to_bytes(4, "big") + packed * count


def _stuffed_fields(kind: Any, room_bytes: int) -> Iterator[tuple[str, bytes]]:
    fields = _fields(kind)
    smallest = [_smallest(each) for each in fields.values()]
    around = sum(len(each) for each in smallest) + 8
    for at, (name, each) in enumerate(fields.items()):
        for where, packed in stuffed(each, room_bytes - around):
            yield f".{name}{where}", _array(kind, [*smallest[:at], packed, *smallest[at + 1 :]])


def _smallest(kind: Any) -> bytes:
    """The fewest bytes that are a value of this type."""
    kind, bounds = _without_bounds(kind)
    if get_origin(kind) in (Union, UnionType):
        return min((_smallest(each) for each in get_args(kind)), key=len)
    if _is_struct(kind):
        return _array(kind, [_smallest(each) for each in _fields(kind).values()])
    if get_origin(kind) is tuple:
        variable = get_args(kind)[1:] == (Ellipsis,)
        return b"\x90" if variable else _array(kind, [_smallest(each) for each in get_args(kind)])
    if issubclass(kind, Enum):
        return packb(next(iter(kind)).value)
    value = BARE[kind]
    if bounds.get("min_length"):
        value = bytes(bounds["min_length"])
    return packb(max(value, bounds["ge"]) if "ge" in bounds else value)


def packb(value: object) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def _array(kind: Any, packed: list[bytes]) -> bytes:
    tag = kind.__struct_config__.tag if _is_struct(kind) else None
    elements = [*([packb(tag)] if tag else []), *packed]
    return b"\xdc" + len(elements).to_bytes(2, "big") + b"".join(elements)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Value | OrderedValue)


def _fields(kind: Any) -> dict[str, Any]:
    if not _is_struct(kind):
        return {f"[{at}]": each for at, each in enumerate(get_args(kind))}
    hints = get_type_hints(kind, include_extras=True)
    return {name: hints[name] for name in kind.__struct_fields__}


def _without_bounds(kind: Any) -> tuple[Any, dict[str, int]]:
    bounds: dict[str, int] = {}
    while isinstance(kind, NewType) or get_origin(kind) is Annotated:
        if isinstance(kind, NewType):
            kind = kind.__supertype__
            continue
        kind, *marks = get_args(kind)
        for mark in marks:
            for name in ("ge", "le", "max_length", "min_length"):
                if getattr(mark, name, None) is not None:
                    bounds[name] = getattr(mark, name)
    return kind, bounds

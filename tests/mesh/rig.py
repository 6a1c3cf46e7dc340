"""A pool of two for the tests: cheap signers, real envelopes, any message by type."""

from functools import cache
from hashlib import blake2b
from typing import Annotated, Any, NewType, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from rain.effects import Message, Record
from rain.election.messages import ElectionMessage
from rain.election.records import ElectionRecord
from rain.gossip.messages import GossipMessage
from rain.gossip.records import GossipRecord
from rain.model import OrderedValue, Value
from rain.sched.messages import SchedMessage
from rain.sched.records import SchedRecord

TEXT_MAX = 24
BOUNDS = ("ge", "le", "lt", "max_length")
POOL_ID = b"p" * 16
POOL_KEY = b"k" * 32


class CheapSigner:
    """A signature anybody could forge, at the price of a hash: for tests of everything else."""

    def __init__(self, name: str) -> None:
        self.public_key = blake2b(name.encode(), digest_size=32).digest()

    def sign(self, content: bytes) -> bytes:
        return cheap_signature(self.public_key, content)


def cheap_signature(public_key: bytes, content: bytes) -> bytes:
    return blake2b(content, key=public_key, digest_size=64).digest()


def cheap_verify(public_key: bytes, signature: bytes, content: bytes) -> bool:
    return signature == cheap_signature(public_key, content)


def kinds_of(*unions: Any) -> list[Any]:
    return [kind for union in unions for kind in get_args(union) or (union,)]


MESSAGES: list[type[Message]] = kinds_of(GossipMessage, ElectionMessage, SchedMessage)
RECORDS: list[type[Record]] = kinds_of(GossipRecord, ElectionRecord, SchedRecord)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of that type within the bounds that the type itself states."""
    bounds: dict[str, Any] = {}
    while isinstance(kind, NewType) or get_origin(kind) is Annotated:
        if isinstance(kind, NewType):
            kind = kind.__supertype__
            continue
        kind, *marks = get_args(kind)
        for mark in marks:
            bounds.update({k: getattr(mark, k) for k in BOUNDS if getattr(mark, k) is not None})
    if kind is int:
        least, most = bounds.get("ge", -(2**63)), bounds.get("le", bounds.get("lt", 2**63) - 1)
        return st.integers(least, most)
    if kind is str:
        # Lone surrogates have no UTF-8: they are refused where a person's words come in.
        letters = st.characters(exclude_categories=["Cs"])
        return st.text(letters, max_size=min(bounds.get("max_length", TEXT_MAX), TEXT_MAX))
    if kind is bytes:
        return st.binary(max_size=bounds.get("max_length", TEXT_MAX))
    if isinstance(kind, type) and issubclass(kind, Value | OrderedValue):
        return _struct_of(kind)
    arguments = get_args(kind)
    if get_origin(kind) is tuple and arguments[-1] is Ellipsis:
        return st.lists(values_of(arguments[0]), max_size=2).map(tuple)
    if get_origin(kind) is tuple:
        return st.tuples(*(values_of(each) for each in arguments))
    if arguments:
        return st.one_of(*(values_of(each) for each in arguments))
    return st.from_type(kind)


@cache
def _struct_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind, include_extras=True)
    fields = {name: values_of(hints[name]) for name in kind.__struct_fields__}
    return st.deferred(lambda: st.builds(kind, **fields))

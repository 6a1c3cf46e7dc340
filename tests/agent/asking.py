"""Asking a verb as the control socket does, and a PC whose rights are what a test says."""

from collections.abc import Mapping

import pytest

from rain.agent.control import End, Json, Verb, VerbError
from rain.claims import node_id_of
from rain.effects import CertificateShown
from rain.mesh import keys
from rain.mesh.certificates import public_key_of
from rain.model import NodeId, Role
from tests.agent.desk import NOW_UNIX_S, OneNode


async def asked(verbs: Mapping[str, Verb], verb: str, **args: object) -> Json:
    """What the verb ends with."""
    async for piece in verbs[verb](dict(args)):
        if isinstance(piece, End):
            return piece.content
    raise AssertionError("a verb has an end")


async def refused(verbs: Mapping[str, Verb], verb: str, **args: object) -> VerbError:
    with pytest.raises(VerbError) as raised:
        await asked(verbs, verb, **args)
    return raised.value


def certify(node: OneNode, name: str, role: Role, person: str, is_itself: bool = False) -> NodeId:
    """Certified a moment later than the founder, by it: another PC, or the founder anew."""
    authority = keys.load_authority(node.folder)
    assert authority is not None
    key = node.signer.public_key if is_itself else public_key_of(name.encode().ljust(32))
    bundle = authority.issue(
        key,
        name=name,
        role=role,
        person=person,
        generation=1,
        invite_id="" if is_itself else "abcdefghij",
        now_unix_s=NOW_UNIX_S + 5,
    )
    node.driver.feed(CertificateShown(bundle))
    return node_id_of(key)

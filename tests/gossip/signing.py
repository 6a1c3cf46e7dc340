"""Signatures that anybody could forge, so that tests can sign for whom they like."""

import hashlib

from msgspec.structs import replace

from rain.claims import Sign
from rain.effects import Admitted
from rain.gossip.messages import SIGNATURE_BYTES, FactsRecord, MemberRecord
from rain.gossip.proofs import facts_content, member_content
from rain.model import NodeId, Role


def public_key_of(node_id: NodeId) -> bytes:
    return hashlib.blake2b(node_id.encode(), digest_size=32).digest()


def signer_of(node_id: NodeId) -> Sign:
    return lambda content: _signature(public_key_of(node_id), content)


def verify(public_key: bytes, signature: bytes, content: bytes) -> bool:
    return signature == _signature(public_key, content)


def signed(record: MemberRecord) -> MemberRecord:
    """By its subject."""
    return replace(record, signature=signer_of(record.node_id)(member_content(record)))


def signed_facts(record: FactsRecord) -> FactsRecord:
    return replace(record, signature=signer_of(record.node_id)(facts_content(record)))


def admitted(node_id: NodeId, name: str = "", role: Role = Role.MEMBER) -> Admitted:
    return Admitted(node_id, name, role, "ann", public_key_of(node_id))


def _signature(public_key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, key=public_key, digest_size=SIGNATURE_BYTES).digest()

"""Who may be spoken of, and what its subject itself has signed.

No member can speak for another: every claim carries its subject's own signature over (node id,
name, boot epoch, incarnation, and whether it is a goodbye), facts one over (node id, boot epoch,
facts). An accusation, which is somebody else's word, carries the signature of the very ALIVE claim
that it is about; so it can lift neither boot epoch nor incarnation, and whoever hears of a member
by an accusation first can believe what else the record says of it.

The address is not signed, as who is bound to all interfaces does not know its own. A false one is
harmless: packets and streams are checked by key, so a lie costs a failed connect, until the next
packet of the member itself shows where it is.

Keys come with admission, by the notices of trust. What is said of nodes that are not admitted
(yet) waits, the newest of it, and counts for nothing until then; nothing waits for the barred.
"""

from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from rain.claims import Sign, Verify, lasting_fields
from rain.effects import Admitted
from rain.gossip.messages import FactsRecord, MemberRecord
from rain.model import MemberState, NodeId

WAITING_MAX = 64
"""Nodes that are not admitted, of which something is kept."""
VERDICTS_MAX = 2_048
"""Signatures that were checked and are not checked again; false ones too."""
MEMBER_CONTEXT = "rain member"
FACTS_FIELDS_FIRST = 9
"""Of facts when they were first signed; later ones count where they are not the default."""
FACTS_CONTEXT = "rain facts"
"""What tells one kind of signed content from every other."""


@dataclass(slots=True)
class Waiting:
    """The last that was said of a node which is not admitted."""

    sender: NodeId
    claim: MemberRecord | None = None
    facts: FactsRecord | None = None


class Proofs:
    """The admitted, the barred, and the signatures of the former."""

    def __init__(self, node_id: NodeId, sign: Sign, verify: Verify) -> None:
        self._id, self._sign, self._verify = node_id, sign, verify
        # Both are as many as the roll names, which trust bounds.
        self._admitted: dict[NodeId, Admitted] = {}
        self._barred: dict[NodeId, None] = {}
        self._waiting: dict[NodeId, Waiting] = {}
        self._verdicts: dict[tuple[bytes, bytes], bool] = {}

    # --- Who may be here -------------------------------------------------------------------------

    def admit(self, notice: Admitted) -> Waiting | None:
        """What was said of it so far, which counts now."""
        self._barred.pop(notice.node_id, None)
        self._admitted[notice.node_id] = notice
        return self._waiting.pop(notice.node_id, None)

    def bar(self, node_id: NodeId) -> None:
        self._admitted.pop(node_id, None)
        self._waiting.pop(node_id, None)
        self._barred[node_id] = None

    def refusal(self, node_id: NodeId) -> str:
        """Why nothing said of it counts; empty if it does."""
        if node_id == self._id or node_id in self._admitted:
            return ""
        return "barred" if node_id in self._barred else "not_admitted"

    def name_of(self, record: MemberRecord) -> str:
        """That of its certificate: nobody shows itself under another's name."""
        notice = self._admitted.get(record.node_id)
        return notice.name if notice is not None and notice.name else record.name

    def keep(self, news: MemberRecord | FactsRecord, sender: NodeId) -> None:
        """Until it is admitted; the longest unheard of gives way."""
        if self.refusal(news.node_id) != "not_admitted":
            return
        waiting = self._waiting.pop(news.node_id, None) or Waiting(sender)
        if isinstance(news, MemberRecord):
            waiting.claim, waiting.sender = news, sender
        else:
            waiting.facts = news
        self._waiting[news.node_id] = waiting
        if len(self._waiting) > WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]

    # --- Signatures ------------------------------------------------------------------------------

    def signed(self, record: MemberRecord) -> MemberRecord:
        """This node's own record."""
        assert record.node_id == self._id, "nobody signs for another"
        return replace(record, signature=self._sign(member_content(record)))

    def signed_facts(self, record: FactsRecord) -> FactsRecord:
        """This node's own facts."""
        assert record.node_id == self._id, "nobody signs for another"
        return replace(record, signature=self._sign(facts_content(record)))

    def is_proven(self, claim: MemberRecord, held: MemberRecord | None) -> bool:
        """Did its subject sign this? What is held was proven, so its like costs nothing."""
        if held is not None and _own_word(held) == _own_word(claim):
            return True
        return self._verdict(claim.node_id, claim.signature, member_content(claim))

    def is_own_word(self, claim: MemberRecord) -> bool:
        """Did this node itself sign this, in whatever life?"""
        assert claim.node_id == self._id, "of itself"
        return self.is_proven(claim, None)

    def are_proven_facts(self, record: FactsRecord) -> bool:
        return self._verdict(record.node_id, record.signature, facts_content(record))

    def _verdict(self, node_id: NodeId, signature: bytes, content: bytes) -> bool:
        notice = self._admitted.get(node_id)
        if notice is None or not notice.public_key or not signature:
            return False
        key = (signature, content)  # the content names whose signature it is
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._verify(notice.public_key, signature, content)
            self._verdicts[key] = verdict
            if len(self._verdicts) > VERDICTS_MAX:
                del self._verdicts[next(iter(self._verdicts))]
        return verdict

    def check(self) -> None:
        assert len(self._waiting) <= WAITING_MAX, "G4: what waits is bounded"
        assert len(self._verdicts) <= VERDICTS_MAX, "G4: verdicts are bounded"
        assert not self._admitted.keys() & self._barred.keys(), "G9: both admitted and barred"
        assert not self._waiting.keys() & self._admitted.keys(), "G9: nothing waits in vain"


def member_content(record: MemberRecord) -> bytes:
    """What the subject signs. Of an accusation: what its subject said when it was alive."""
    is_goodbye = record.state is MemberState.LEFT
    return msgspec.msgpack.encode(
        (
            MEMBER_CONTEXT,
            record.node_id,
            record.name,
            record.boot_epoch,
            record.incarnation,
            is_goodbye,
        )
    )


def facts_content(record: FactsRecord) -> bytes:
    facts = lasting_fields(record.facts, FACTS_FIELDS_FIRST)
    return msgspec.msgpack.encode((FACTS_CONTEXT, record.node_id, record.boot_epoch, facts))


def _own_word(record: MemberRecord) -> tuple[int, int, bool, str, bytes]:
    is_goodbye = record.state is MemberState.LEFT
    return record.boot_epoch, record.incarnation, is_goodbye, record.name, record.signature

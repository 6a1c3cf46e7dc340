"""Effects as lines of text, so that a history reads like a conversation."""

from rain.effects import (
    Broadcast,
    Cast,
    DiskOld,
    FactsChanged,
    Log,
    MemberDown,
    MemberUnreachable,
    MemberUp,
    Message,
    Output,
    Persist,
    Post,
    Route,
    Send,
)
from rain.gossip.messages import (
    Ack,
    Join,
    MemberRecord,
    Nack,
    Ping,
    PingRequest,
    Rumours,
    Sync,
)
from rain.gossip.records import LifeRow, MemberRow


def told(outputs: list[Output]) -> str:
    """One line per effect; log lines are left out."""
    return "\n".join(_line(output) for output in outputs if not isinstance(output, Log))


def lines(text: str) -> str:
    """An expected history, without its indentation."""
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _line(output: Output) -> str:
    match output:
        case Send(to=to, message=message):
            return f"send {to} {_message(message)}"
        case Cast(to=to, message=message):
            return f"cast {','.join(to)} {_message(message)}"
        case Post(to=to, message=message):
            return f"post {to} {_message(message)}"
        case Broadcast(message=message):
            return f"broadcast {_message(message)}"
        case Route(node_id=node_id, address=address):
            return f"route {node_id} {address.host}"
        case Persist(puts=puts, deletes=deletes):
            rows = [f"{r.node_id}={r.state.name}" for r in puts if isinstance(r, MemberRow)]
            rows += [f"life={r.boot_epoch}" for r in puts if isinstance(r, LifeRow)]
            return " ".join(["persist", *rows, *(f"-{key}" for key in deletes)])
        case MemberUp(node_id=node_id, boot_epoch=boot_epoch, facts=facts):
            return f"up {node_id} life {boot_epoch} facts {facts.version}"
        case MemberDown(node_id=node_id, state=state):
            return f"down {node_id} {state.name}"
        case DiskOld(boot_epoch=boot_epoch):
            return f"old disk, life {boot_epoch} forgotten"
        case MemberUnreachable(node_id=node_id):
            return f"unreachable {node_id}"
        case FactsChanged(node_id=node_id, facts=facts):
            return f"facts {node_id} {facts.version}"
        case _:
            return type(output).__name__.lower()


def _message(message: Message) -> str:
    match message:
        case Join(record=record, reply=reply):
            return f"Join {_claim(record)}{' reply' if reply else ''}"
        case Ping(sequence=sequence, updates=updates):
            return " ".join([f"Ping {sequence}", *map(_claim, updates)])
        case Ack(sequence=sequence, updates=updates):
            return " ".join([f"Ack {sequence}", *map(_claim, updates)])
        case PingRequest(sequence=sequence, target=target):
            return f"PingRequest {sequence} {target}"
        case Nack(sequence=sequence):
            return f"Nack {sequence}"
        case Sync(records=records, reply=reply, digest=digest):
            words = ["Sync", *map(_claim, records)]
            return " ".join(words + ["digest"] * bool(digest) + ["reply"] * reply)
        case Rumours(updates=updates, facts=facts):
            news = [f"facts:{record.node_id}/{record.facts.version}" for record in facts]
            return " ".join(["Rumours", *map(_claim, updates), *news])
        case _:
            raise AssertionError(message)


def _claim(record: MemberRecord) -> str:
    by = f"<{record.accuser}" if record.accuser else ""
    return f"{record.node_id}/{record.boot_epoch}.{record.incarnation}:{record.state.name}{by}"

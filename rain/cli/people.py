"""Verbs about who may be in the pool: invite, kick, members, recover."""

import sys
from collections.abc import Iterable
from typing import Any

import click

from rain.cli import render
from rain.cli.errors import note
from rain.cli.invitations import invitation_options
from rain.cli.session import Session, common_options, parsed, pass_session
from rain.config import parse_duration

ROLES = ("worker", "member", "admin")
USES_MAX = 1_000
PHRASE_CHARS_MAX = 1_024


@click.command()
@click.option("--token", is_flag=True, help="A long token for scripts, instead of a short code.")
@click.option(
    "--uses", type=click.IntRange(1, USES_MAX), metavar="N",
    help="How many PCs may join with the token; else 32.",
)  # fmt: skip
@click.option(
    "--ttl", callback=parsed(parse_duration), metavar="TIME",
    help="How long it may be used; else 10m for a code, 24h for a token.",
)  # fmt: skip
@click.option(
    "--role", type=click.Choice(ROLES), default="member",
    help="worker: lends its machine; member: also submits (default); admin: also invites.",
)  # fmt: skip
@click.option("--for", "person", metavar="PERSON", help="Whose PC it is; else yours.")
@click.option("-q", "--quiet", is_flag=True, help="The code or token alone.")
@common_options
@pass_session
@invitation_options
def invite(
    session: Session,
    token: bool,
    uses: int | None,
    ttl: int | None,
    role: str,
    person: str | None,
    quiet: bool,
) -> int:
    """Let another PC in: shows a short code, to be typed there within ten minutes."""
    if uses is not None and not token:
        raise click.UsageError("a short code lets one PC in; --uses needs --token")
    is_watched = not token and not quiet and not session.as_json and sys.stdout.isatty()
    stream = session.client.stream(
        "invite",
        token=token,
        uses=uses or 0,
        ttl_ms=ttl or 0,
        role=role,
        person=person or "",
        watch=is_watched,
    )
    told = next(stream)
    if session.as_json:
        render.print_json(told)
    elif quiet:
        click.echo(told["token"] if token else told["code"])
    elif token:
        _show_token(told)
    else:
        _show_code(told)
    if is_watched:
        note("Waiting … (Ctrl-C: the code stays valid)")
    return _watch(stream)


def _show_token(told: dict[str, Any]) -> None:
    click.echo(
        f"This token lets {told['uses']} PC(s) into {told['pool']} as {told['role']} "
        f"for {told['person']}, until {render.when(told['until'])}."
    )
    click.echo("On the other PC type:  rain up --join-file -   and give it this line.")
    click.echo("Who has it may join, and run containers on the pool's PCs: keep it secret.")
    click.echo(told["token"])


def _show_code(told: dict[str, Any]) -> None:
    click.echo("On the other PC type:  rain up")
    click.echo(f"and this code there:   {told['code']}")
    click.echo(
        f"Valid until {render.when(told['until'])}, for one PC, "
        f"as {told['role']} for {told['person']}."
    )


def _watch(stream: Iterable[dict[str, Any]]) -> int:
    """Tell a person what becomes of the code while they look on."""
    try:
        for event in stream:
            if event.get("event") == "wrong":
                note(f"{event['name']} tried a wrong code ({event['left']} tries left)")
            elif event.get("event") == "joined":
                click.echo(f"{event['name']} joined")
            elif event.get("event") == "over":
                note(f"the code is over: {event['reason']}; another one: rain invite")
                return 1
    except KeyboardInterrupt:
        note("the code stays valid")
    return 0


@click.command()
@click.argument("node")
@click.option("--reason", default="", metavar="TEXT", help="Kept with the removal, for all to see.")
@click.option("--with-invited", is_flag=True, help="Remove everybody that it let in, too.")
@common_options
@pass_session
def kick(session: Session, node: str, reason: str, with_invited: bool) -> int:
    """Remove a PC from the pool: its certificate counts nowhere any more, and keys change.

    Of those that an admin's PC let in, admins fall with it; members and workers stay and are named.
    """
    answer = session.client.call("kick", node=node, reason=reason, with_invited=with_invited)
    if session.as_json:
        render.print_json(answer)
        return 0
    click.echo(f"{answer['name']} is removed; {_key_told(answer['key'])}")
    if answer.get("fallen"):
        click.echo(f"out with it, as it let them in: {', '.join(answer['fallen'])}")
    if answer.get("kept"):
        click.echo(
            f"kept, though {answer['name']} let them in: {', '.join(answer['kept'])} "
            "(rain kick each that you do not know)"
        )
    for warning in answer.get("warnings", []):
        note(f"rain: {warning}")
    return 0


@click.command()
@click.option("--events", is_flag=True, help="Who came, went, was removed, submitted, cancelled.")
@common_options
@pass_session
def members(session: Session, events: bool) -> int:
    """Who is in the pool: since when, invited by whom, until when."""
    answer = session.client.call("members", events=events)
    if session.as_json:
        render.print_json(answer)
        return 0
    if events:
        render.table(
            ("WHEN", "EVENT", "BY", "WHAT"),
            [
                (render.when(one["at"]), one["event"], one["by"], one["what"])
                for one in answer["events"]
            ],
            session.color,
        )
        return 0
    render.table(
        ("NAME", "ROLE", "PERSON", "STATE", "SINCE", "INVITED BY", "CERTIFICATE UNTIL"),
        [
            (
                one["name"],
                one["role"],
                one["person"],
                one["state"],
                render.when(one["since"]),
                one["invited_by"],
                render.when(one["until"]),
            )
            for one in answer["members"]
        ],
        session.color,
    )
    click.echo(f"pool key: {_key_told(answer['key'])}")
    return 0


def _key_told(key: dict[str, Any]) -> str:
    return f"key {key['number']} is with {key['have']} of {key['of']} PC(s) that are up"


@click.command()
@click.option("--phrase-file", metavar="F", help="A file with the twelve words; - is stdin.")
@common_options
@pass_session
def recover(session: Session, phrase_file: str | None) -> int:
    """Make this PC keep the pool's root, by the twelve words shown at founding."""
    if phrase_file is None:
        words = click.prompt("The twelve words", hide_input=True, err=True)
    else:
        words = _read_phrase(phrase_file)
    answer = session.client.call("recover", phrase=words)
    if session.as_json:
        render.print_json(answer)
    else:
        click.echo(
            f"{answer['name']} keeps the root of {answer['pool']} now, and is an admin of it"
        )
    return 0


def _read_phrase(path: str) -> str:
    try:
        with click.open_file(path, encoding="utf-8") as file:
            return str(file.read(PHRASE_CHARS_MAX))
    except (OSError, ValueError) as error:
        raise click.UsageError(f"the file {path} cannot be read: {error}") from error

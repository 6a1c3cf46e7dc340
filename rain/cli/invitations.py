"""`rain invite --list` and `--withdraw`: the invitations that were made, and taking one back."""

import functools
from collections.abc import Callable
from typing import Any

import click

from rain.cli import render
from rain.cli.session import Session

Verb = Callable[..., int]


def invitation_options(verb: Verb) -> Verb:
    """Adds both options to a verb whose first argument is the session; with them, it is not run."""

    @click.option("--list", "is_list", is_flag=True, help="Instead: the invitations that are open.")
    @click.option("--withdraw", "withdrawn", metavar="ID", help="Instead: take that one back.")
    @functools.wraps(verb)
    def either(session: Session, /, *, is_list: bool, withdrawn: str | None, **given: Any) -> int:
        if is_list and withdrawn is not None:
            raise click.UsageError("--list and --withdraw are two things to do")
        if is_list:
            return show_invitations(session)
        if withdrawn is not None:
            return withdraw(session, withdrawn)
        return verb(session, **given)

    return either


def show_invitations(session: Session) -> int:
    """Who could come in by what was given to them."""
    answer = session.client.call("invites")
    if session.as_json:
        render.print_json(answer)
        return 0
    render.table(
        ("ID", "KIND", "ROLE", "FOR", "USED", "UNTIL", "INVITED BY"),
        [
            (
                one["id"],
                one["kind"],
                one["role"],
                one["person"],
                f"{one['used']} of {one['uses']}",
                render.when(one["until"]),
                one["invited_by"],
            )
            for one in answer["invitations"]
        ],
        session.color,
    )
    return 0


def withdraw(session: Session, invite_id: str) -> int:
    """From now on it lets nobody in."""
    answer = session.client.call("withdraw", id=invite_id)
    if session.as_json:
        render.print_json(answer)
    else:
        click.echo(f"{answer['kind']} {answer['id']} lets nobody in any more; who is in stays in")
    return 0

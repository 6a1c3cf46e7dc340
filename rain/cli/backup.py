"""Verbs about what is kept: backup, restore, repair."""

import base64
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rain.cli import render
from rain.cli.errors import VerbFailed, as_typed, note
from rain.cli.session import Session, common_options, pass_session

if TYPE_CHECKING:
    from rain.agent.backup import Head
    from rain.agent.repair import Repaired
    from rain.agent.restore import Restored

PROGRESS_BYTES = 64 * 1024 * 1024
NOT_IN_POOL = 4
DISK = 7
PHRASE_CHARS_MAX = 1_024

passphrase_option = click.option(
    "--passphrase-file",
    metavar="F",
    help="A file whose first line is the passphrase; - is stdin. Else it is asked for.",
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--with-keys", is_flag=True, help="With this PC's private keys: it can come back.")
@click.option("--plain", is_flag=True, help="Not encrypted, and without anything secret.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@passphrase_option
@common_options
@pass_session
def backup(
    session: Session,
    file: Path,
    with_keys: bool,
    plain: bool,
    force: bool,
    passphrase_file: str | None,
) -> int:
    """Keep the pool's jobs and records in one file, encrypted with a passphrase.

    What is in it, and what a restore does: docs/backup.md.
    """
    from rain.agent import backup as form

    if plain and with_keys:
        raise click.UsageError("--plain has nothing secret in it, --with-keys has: choose one")
    if plain and passphrase_file is not None:
        raise click.UsageError("--plain is not encrypted: it needs no passphrase")
    if file.exists() and not force:
        raise VerbFailed(f"{file} is there already", "choose another name, or say --force")
    head = _head_of(session.data_dir, is_encrypted=not plain, has_keys=with_keys)
    passphrase = "" if plain else _passphrase(passphrase_file, is_new=True)
    try:
        rows, left_out = form.chosen(_rows(session), is_plain=plain)
        files = form.files_of(session.data_dir, has_keys=with_keys)
        content = form.pieces(head, passphrase, form.entries(rows, files))
        length = form.write_file(file, _watched(content, session), is_forced=force)
    except form.BackupError as error:
        raise VerbFailed(error.message, error.hint) from error
    except OSError as error:
        raise VerbFailed(f"the keys of this PC cannot be read: {error}") from error
    _tell_backup(session, file, length, head, rows, left_out)
    return 0


def _head_of(folder: Path, *, is_encrypted: bool, has_keys: bool) -> "Head":
    from rain.agent.backup import FORMAT, Head
    from rain.agent.clock import now_unix_ms
    from rain.mesh import keys
    from rain.mesh.certificates import make_inspect
    from rain.mesh.errors import MeshError
    from rain.sched.civil import rfc3339

    try:
        pool, bundle = keys.load_pool(folder), keys.load_certificate(folder)
    except MeshError as error:
        raise VerbFailed(error.message, error.hint) from error
    if pool is None:
        message = f"this PC is in no pool (data folder {folder})"
        raise VerbFailed(message, "be in one first: rain up", NOT_IN_POOL, "not_in_pool")
    own = make_inspect(pool)(bundle) if bundle is not None else None
    return Head(
        format=FORMAT,
        made_at=rfc3339(now_unix_ms()),
        pool=pool.name,
        pool_id=pool.pool_id.hex(),
        node=own.name if own is not None else "",
        is_encrypted=is_encrypted,
        has_keys=has_keys,
    )


def _rows(session: Session) -> dict[str, bytes]:
    """From the agent, or from the folder where none runs."""
    from rain.client import NoAgent

    try:
        return {
            key: base64.b64decode(value)
            for piece in session.client.stream("backup")
            for key, value in piece["rows"]
        }
    except NoAgent:
        return _rows_on_disk(session.data_dir)


def _rows_on_disk(folder: Path) -> dict[str, bytes]:
    import asyncio

    from rain.agent.recollection import STORE_FILE
    from rain.store import Store, StoreError

    async def read() -> dict[str, bytes]:
        store = Store.open(folder / STORE_FILE)
        try:
            return dict(store.read_all())
        finally:
            await store.close()

    if not (folder / STORE_FILE).exists():
        raise VerbFailed(f"there is no store in {folder}", "start the agent once: rain up")
    try:
        return asyncio.run(read())
    except StoreError as error:
        raise VerbFailed(error.message, error.hint, DISK if error.kind else 1, "disk") from error


def _watched(content: Iterator[bytes], session: Session) -> Iterator[bytes]:
    """Tells a person now and then how far a large file is."""
    written = told = 0
    for piece in content:
        yield piece
        written += len(piece)
        if written - told >= PROGRESS_BYTES and not session.as_json:
            told = written
            note(f"{render.size(written)} written")


def _tell_backup(
    session: Session,
    file: Path,
    length: int,
    head: "Head",
    rows: Mapping[str, bytes],
    left_out: int,
) -> None:
    jobs = sum(key.startswith("job/") for key in rows)
    if session.as_json:
        told = {"file": str(file), "bytes": length, "pool": head.pool, "jobs": jobs}
        told |= {"encrypted": head.is_encrypted, "keys": head.has_keys, "left_out": left_out}
        render.print_json(told)
        return
    click.echo(f"{file}: pool {head.pool}, {jobs} job(s), {render.size(length)}")
    if left_out:
        note(f"{left_out} job(s) with secrets are not in it, as --plain says")
    if head.has_keys:
        note("Who has this file and its passphrase is this PC to the pool: keep them apart.")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--plain", is_flag=True, help="FILE is not encrypted, and I trust where it was.")
@passphrase_option
@click.option(
    "--phrase-file",
    metavar="F",
    help="The twelve words of the founding make this PC an admin, where no key is in the backup.",
)
@click.option("--name", help="With --phrase-file: this PC's name in the pool; else its host name.")
@common_options
@pass_session
def restore(
    session: Session,
    file: Path,
    plain: bool,
    passphrase_file: str | None,
    phrase_file: str | None,
    name: str | None,
) -> int:
    """Bring a pool back from a backup FILE, into a data folder that is empty."""
    from rain.agent import backup as form
    from rain.agent.restore import refuse_unless_empty
    from rain.agent.restore import restore as restored_from
    from rain.config import login_name, open_data_dir, up_options
    from rain.mesh.errors import MeshError
    from rain.store import StoreError

    if plain and passphrase_file is not None:
        raise click.UsageError("--plain is not encrypted: it needs no passphrase")
    explicit = {"name": name} if name else {}
    options = up_options(session.data_dir, explicit)
    try:
        head = form.read_head(file)
        if phrase_file is not None and (head.has_keys or not head.is_encrypted):
            raise click.UsageError(
                "--phrase-file is for an encrypted backup that was made without --with-keys"
            )
        if plain and head.is_encrypted:
            raise VerbFailed(f"{file} is encrypted", "leave --plain out")
        if not plain and not head.is_encrypted:
            raise form.plain_where_sealed(file)
        passphrase = "" if plain else _passphrase(passphrase_file, is_new=False)
        phrase = "" if phrase_file is None else _line_of(phrase_file, "The twelve words", False)
        opened = form.read_file(file, passphrase)
        refuse_unless_empty(session.data_dir)
        open_data_dir(session.data_dir)
        done = restored_from(session.data_dir, opened, phrase, options.name, login_name())
    except (form.BackupError, MeshError, StoreError) as error:
        raise VerbFailed(error.message, error.hint) from error
    _tell_restore(session, done, by_phrase=bool(phrase))
    return 0


def _tell_restore(session: Session, done: "Restored", *, by_phrase: bool) -> None:
    if session.as_json:
        told = {"pool": done.pool, "node_id": done.node_id, "admin": done.is_admin}
        render.print_json({**told, "saved": done.saved, "unread": done.unread})
        return
    click.echo(f"pool {done.pool}: {_in_words(done.saved)}")
    if done.unread:
        note(f"{done.unread} row(s) are of another version of Rain, and were left out")
    if not done.node_id:
        words = "This PC is not in the pool yet. Join it with an invitation: rain up"
        click.echo(as_typed(words, session.data_dir_text))
        return
    click.echo("This PC is in the pool again" + (", as an admin" if done.is_admin else "") + ".")
    click.echo(as_typed("Start it:  rain up", session.data_dir_text))
    if by_phrase:
        note("This is for when no PC of the pool is left. One that lives does not know this PC:")
        note("the two would go on apart. There, take a code instead (rain invite, rain up --join).")
        return
    note("The PC that made this backup must not run any more under the same keys.")


@click.command()
@common_options
@pass_session
def repair(session: Session) -> int:
    """Save what can be read of this PC's damaged store; the damaged file is kept aside."""
    import asyncio

    from rain.agent.repair import repair as repaired_in
    from rain.mesh.errors import MeshError
    from rain.store import StoreError

    if session.client.is_agent_there():
        message = f"an agent runs on {session.data_dir}: a store in use cannot be repaired"
        raise VerbFailed(message, "stop it first: rain down; then: rain repair")
    try:
        done = asyncio.run(repaired_in(session.data_dir))
    except StoreError as error:
        raise VerbFailed(error.message, error.hint, DISK if error.kind else 1, "disk") from error
    except MeshError as error:
        raise VerbFailed(error.message, error.hint) from error
    _tell_repair(session, done)
    return 0


def _tell_repair(session: Session, done: "Repaired") -> None:
    if session.as_json:
        kept_as = str(done.kept_as) if done.kept_as is not None else None
        told = {"why": done.why, "kept_as": kept_as, "saved": dict(done.saved)}
        render.print_json({**told, "pages_lost": done.pages_lost})
        return
    if not done.why:
        click.echo("the store is whole: there is nothing to repair")
        return
    click.echo(f"was:    {done.why}")
    click.echo(f"saved:  {_in_words(done.saved)}")
    lost = f"what {done.pages_lost} page(s) held" if done.pages_lost else "no page"
    click.echo(f"lost:   {lost}, as far as can be seen")
    click.echo(f"kept:   {done.kept_as}")
    start = as_typed("Start it:  rain up", session.data_dir_text)
    click.echo(f"{start}   (what is missing comes back from the pool's other PCs)")


def _in_words(saved: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {words}" for words, count in saved.items()) or "nothing"


# --- What is typed -------------------------------------------------------------------------------


def _passphrase(file: str | None, *, is_new: bool) -> str:
    from rain.agent.backup import PASSPHRASE_CHARS_MIN

    passphrase = _line_of(file, "Passphrase of the backup", is_new)
    if is_new and len(passphrase) < PASSPHRASE_CHARS_MIN:
        raise click.UsageError(f"a passphrase has {PASSPHRASE_CHARS_MIN} characters or more")
    return passphrase


def _line_of(file: str | None, prompt: str, is_new: bool) -> str:
    """Never an argument: every user of this PC can read the arguments of a command that runs."""
    if file is None:
        if not sys.stdin.isatty():
            raise click.UsageError("no terminal to ask at: give it by --passphrase-file F")
        answer = click.prompt(prompt, hide_input=True, confirmation_prompt=is_new, err=True)
        return str(answer)
    try:
        with click.open_file(file, encoding="utf-8") as opened:
            return str(opened.readline(PHRASE_CHARS_MAX)).rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise click.UsageError(f"the file {file} cannot be read: {error}") from error

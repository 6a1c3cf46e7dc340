"""Verbs about the pool and this installation: status, nodes, version, completion."""

import platform
from typing import Any

import click

from rain.cli import render
from rain.cli.errors import as_typed, note
from rain.cli.session import Session, common_options, pass_session
from rain.version import PROTOCOL, VERSION


@click.command()
@common_options
@pass_session
def status(session: Session) -> int:
    """This node, its pool, the coordinator."""
    answer = session.client.call("status")
    if session.as_json:
        render.print_json(answer)
        return 0
    node, coordinator, epoch = answer["node"], answer["coordinator"], answer["epoch"]
    reign = f" (epoch {epoch['number']})" if epoch else ""
    alive = answer["members"].get("alive", 0)
    others = [
        f"{answer['members'][state]} {state}"
        for state in ("suspect", "dead", "left")
        if answer["members"].get(state)
    ]
    lines = [
        ("node", f"{node['name']}  {node['state']}  {node['address']}"),
        ("pool", answer["pool"]["name"]),
        ("coordinator", coordinator["name"] + reign if coordinator else "none now"),
        ("members", ", ".join([f"{alive} alive", *others])),
        ("version", answer["version"]),
    ]
    if answer.get("table"):
        lines.append(("jobs kept", _kept(answer["table"])))
    if answer.get("idle_reason"):
        lines.append(("takes no work", answer["idle_reason"]))
    disk = answer.get("disk")
    if disk and disk["state"] != "ok":
        lines.append(("disk", f"{disk['state']}: {disk['reason']}"))
    if late := _late(answer.get("lag_ms") or {}):
        lines.append(("late", late))
    if answer.get("role"):
        until = render.when(answer["certificate_until"])
        lines.append(
            ("role", f"{answer['role']}, for {answer['person']}, certificate until {until}")
        )
    if answer.get("braked"):
        lines.append(("braked", "most of the pool is out of reach: nothing of it is run again yet"))
    for word, text in lines:
        click.echo(f"{word + ':':<15}{text}")
    for warning in answer.get("warnings", []):
        note(as_typed(f"rain: {warning}", session.data_dir_text))
    return 0


def _late(lag_ms: dict[str, int | None]) -> str:
    """Whose agent had no time for itself within the last second, and how much it came too late."""
    whose = {"own": "this PC", "coordinator": "the coordinator"}
    return ", ".join(
        f"{words} by {lag_ms[who]} ms" for who, words in whose.items() if lag_ms.get(who)
    )


def _kept(table: dict[str, Any]) -> str:
    words = [str(table["jobs"])]
    words += [f"{table[name]} {name}" for name in ("forgotten", "quarantined") if table[name]]
    return f"{', '.join(words)} (table {table['digest']})"


@click.command()
@common_options
@pass_session
def nodes(session: Session) -> int:
    """The PCs of the pool: what they offer and what is free."""
    answer = session.client.call("nodes")
    if session.as_json:
        render.print_json(answer)
        return 0
    render.table(
        ("NAME", "STATE", "ADDRESS", "CPUS FREE", "MEMORY FREE", "ROLE"),
        [
            (
                node["name"],
                node["state"],
                node["address"],
                *_free(node),
                _role(node),
            )
            for node in answer["nodes"]
        ],
        session.color,
    )
    return 0


def _free(node: dict[str, Any]) -> tuple[str, str]:
    """CPUs and memory; of a PC that is down nothing is free."""
    if node["state"] in ("dead", "left"):
        return "-", "-"
    free, all_ = node["free"], node["capacity"]
    return (
        f"{render.cpus(free['cpus'])} of {render.cpus(all_['cpus'])}",
        f"{render.size(free['memory_bytes'])} of {render.size(all_['memory_bytes'])}",
    )


def _role(node: dict[str, Any]) -> str:
    words = ["coordinator"] if node["is_coordinator"] else []
    if node.get("idle_reason"):
        words.append(f"no work: {node['idle_reason']}")
    return ", ".join(words)


@click.command()
@common_options
@pass_session
def version(session: Session) -> int:
    """The versions of Rain, of its protocol and of Python."""
    if session.as_json:
        python = platform.python_version()
        render.print_json({"version": VERSION, "protocol": PROTOCOL, "python": python})
    else:
        click.echo(f"rain {VERSION} (protocol {PROTOCOL}, Python {platform.python_version()})")
    return 0


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common_options
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print the completion script of a shell: eval "$(rain completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "the choices are click's own shells"
    root = context.find_root().command
    try:
        click.echo(kind(root, {}, "rain", "_RAIN_COMPLETE").source())
    except RuntimeError as error:
        note(f"rain: {error}")
        return 1
    return 0

"""The table of verbs: where each lives, and its line in `rain --help`. A verb's module is imported
when the verb is typed, so help and the quick verbs start quickly."""

from importlib import import_module

import click

VERBS = {
    "backup": ("backup", "Keep the pool's jobs and records in one file."),
    "cancel": ("jobs", "End jobs: what waits is not started, what runs is stopped."),
    "completion": ("pool", "Print the completion script of a shell."),
    "demo": ("demo", "Show it all on this PC: three nodes, their coordinator killed."),
    "down": ("up", "Stop this PC's node; coordination is handed over first."),
    "invite": ("people", "Let another PC in: shows a short code to be typed there."),
    "job": ("jobs", "One job."),
    "jobs": ("jobs", "The pool's jobs, from whichever node."),
    "kick": ("people", "Remove a PC from the pool: its certificate counts no more."),
    "leave": ("up", "Stop this PC's node and forget the pool."),
    "logs": ("jobs", "What a job, or one task of an array, printed."),
    "members": ("people", "Who is in the pool: since when, invited by whom, until when."),
    "nodes": ("pool", "The PCs of the pool: what they offer and what is free."),
    "quarantine": ("jobs", "Jobs this PC brought back after more than 180 days: release or drop."),
    "recover": ("people", "Make this PC keep the pool's root, by the phrase of its founding."),
    "repair": ("backup", "Save what can be read of this PC's damaged store."),
    "restore": ("backup", "Bring a pool back from a backup."),
    "run": ("submit", "Run a job tied to this terminal: Ctrl-C cancels it."),
    "sim": ("sim", "What happens in this pool if some of its PCs go off: simulated."),
    "status": ("pool", "This node, its pool, the coordinator."),
    "submit": ("submit", "Give the pool a job."),
    "up": ("up", "Start this PC's node, here in the foreground."),
    "version": ("pool", "The versions of Rain, of its protocol and of Python."),
    "wait": ("jobs", "Wait for jobs to end; the exit code is theirs."),
}


class Verbs(click.Group):
    """A group that knows its verbs by the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"rain.cli.{VERBS[cmd_name][0]}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, VERBS[name][1]) for name in sorted(VERBS)])

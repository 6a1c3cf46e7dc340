"""What all verbs share: the options that stand anywhere, and the way to the agent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:  # help alone needs neither, and both take their time
    from pathlib import Path

    from rain.client import Client


F = TypeVar("F", bound=Callable[..., Any])
TASK_WORDS = "rain.task_words"


@dataclass
class Session:
    """What this command line said before and among the options of its verb."""

    data_dir_text: str = ""
    as_json: bool = False
    color: bool = True

    @property
    def data_dir(self) -> "Path":
        from rain.config import data_dir_of

        return data_dir_of(self.data_dir_text)

    @property
    def client(self) -> "Client":
        from rain.cli.errors import note
        from rain.client import Client

        return Client(self.data_dir, note)


pass_session = click.make_pass_decorator(Session, ensure=True)


def _session(context: click.Context) -> Session:
    return context.find_root().ensure_object(Session)


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        _session(context).as_json = True


def _set_no_color(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        _session(context).color = False


def _set_data_dir(context: click.Context, _parameter: click.Parameter, value: str) -> None:
    if value:
        _session(context).data_dir_text = value


def common_options(function: F) -> F:
    """--json, --data-dir and --no-color: before the verb or among its options."""
    for option in (
        click.option("--no-color", is_flag=True, expose_value=False, is_eager=True,
                     callback=_set_no_color, help="No colours, whatever the terminal can do."),
        click.option("--data-dir", metavar="DIR", default="", expose_value=False, is_eager=True,
                     callback=_set_data_dir, help="The agent's folder [env: RAIN_DATA_DIR]."),
        click.option("--json", is_flag=True, expose_value=False, is_eager=True,
                     callback=_set_json, help="Answer with JSON on stdout, errors too."),
    ):  # fmt: skip
        function = option(function)
    return function


def wants_json(words: list[str]) -> bool:
    """Whether --json was asked for, also on a command line that could not be read."""
    own = words[: words.index("--")] if "--" in words else words
    return "--json" in own


def folder_named(words: list[str]) -> str:
    """The --data-dir of a command line, also of one that could not be read; empty: none."""
    own = words[: words.index("--")] if "--" in words else words
    named = ""
    for word, following in zip(own, [*own[1:], ""], strict=False):
        option, equals, value = word.partition("=")
        if option == "--data-dir":
            named = value if equals else following
    return named


class TaskVerb(click.Command):
    """A verb whose words after the first `--` are the task's: they are never read as options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own, words = args, []
        if "--" in args:
            place = args.index("--")
            own, words = args[:place], args[place + 1 :]
        ctx.meta[TASK_WORDS] = tuple(words)
        try:
            return super().parse_args(ctx, own)
        except click.UsageError as error:
            if error.message.startswith("Got unexpected extra argument"):
                raise click.UsageError(
                    f"the task's command must stand after -- (rain {self.name} [OPTIONS] -- CMD…)",
                    ctx,
                ) from error
            raise

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "--", "CMD…"]


def parsed(parse: Callable[[str], object]) -> Callable[..., object]:
    """A callback for an option read by one of rain.config's parsers; misfits are usage errors."""

    def callback(_context: click.Context, _parameter: click.Parameter, value: str | None) -> object:
        if value is None:
            return None
        from rain.config import ConfigError

        try:
            return parse(value)
        except ConfigError as error:
            raise click.BadParameter(f"{error.message}: {error.hint}") from error

    return callback

"""The command line. It starts quickly: click and the standard library until a verb needs more."""

import sys

import click

from rain.cli.session import common_options, folder_named, wants_json
from rain.cli.verbs import Verbs


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
    epilog="Every verb tells its own options: rain VERB --help",
)
@common_options
@click.pass_context
def rain(context: click.Context) -> int:
    """Rain: ordinary PCs on a network, one compute pool.

    The first PC founds a pool with `rain up`; `rain invite` there shows a code for the next PC.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    return 0


def main(arguments: list[str] | None = None) -> None:
    """The entry point of `rain` and `python -m rain`."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if sys.flags.optimize:
            raise click.UsageError("Rain needs its assertions: start Python without -O")
        code = rain.main(words, prog_name="rain", standalone_mode=False) or 0
        sys.stdout.flush()
    except BaseException as error:  # every way to end has an exit code and a word for people
        code = 0 if _is_plain_end(error) else _end_of(error, words)
    sys.exit(code)


def _is_plain_end(error: BaseException) -> bool:
    return isinstance(error, click.exceptions.Exit) and error.exit_code == 0


def _end_of(error: BaseException, words: list[str]) -> int:
    from rain.cli.errors import end_of  # it knows the agent's errors; help needs none of them

    return end_of(error, wants_json(words), folder_named(words))

"""What a job is given that nobody else may see: --env-file, --secret; and folders: --volume.

What is in a file never gets into an error: it names the file and the line.
"""

import base64
import os
import re
from pathlib import Path
from typing import Any

import click

from rain.client import Json
from rain.config import ConfigError

ENV_FILE_BYTES_MAX = 1024 * 1024
VALUE_CHARS_MAX = 128 * 1024
"""What a program can be given in one variable."""
SECRETS_BYTES_MAX = 64 * 1024
SECRETS_MAX = 64
SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
MASK = "***"


def private_environment_of(file: str | None) -> list[tuple[str, str]]:
    """The variables of an --env-file, sorted by name.

    As docker reads such a file: a later line wins; a name alone is taken from here, and left out
    where it is not set here.
    """
    chosen: dict[str, str] = {}
    content = b"" if file is None else _content(file, ENV_FILE_BYTES_MAX, "--env-file F")
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        where = f"{file}, line {number}"
        try:
            text = line.rstrip(b"\r").decode().lstrip()
        except UnicodeDecodeError:
            raise ConfigError(f"{where} is not UTF-8", "save the file as UTF-8") from None
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not re.fullmatch(r"[^\s=\0]+", name) or "\0" in value:
            raise ConfigError(f"{where} is not K=V", "lines are K=V, K alone, or # a comment")
        if len(value) > VALUE_CHARS_MAX:
            raise ConfigError(f"{where} is too long", "pass a file instead: --secret NAME=FILE")
        if equals:
            chosen[name] = value
        elif name in os.environ:
            chosen[name] = os.environ[name]
    return sorted(chosen.items())


def secrets_of(texts: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each --secret NAME=FILE: the name, and what is in the file as base64; sorted by name."""
    chosen: dict[str, str] = {}
    total = 0
    for text in texts:
        name, _, file = text.partition("=")
        if not file or SECRET_NAME.fullmatch(name) is None:
            raise click.UsageError(
                f"--secret {text}: write NAME=FILE, with letters, digits, _, - or . in the name"
            )
        if name in chosen:
            raise click.UsageError(f"--secret {name} is there twice")
        content = _content(file, SECRETS_BYTES_MAX, "--secret NAME=FILE")
        total += len(content)
        chosen[name] = base64.b64encode(content).decode()
    if total > SECRETS_BYTES_MAX or len(chosen) > SECRETS_MAX:
        raise ConfigError(
            f"the secrets are more than {SECRETS_BYTES_MAX // 1024} KiB together",
            "give the task the key to larger things: --secret NAME=FILE",
        )
    return sorted(chosen.items())


def volume_of(text: str) -> list[Any]:
    """SRC:DST[:ro] by the fields of rain.model.Volume."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    is_whole = source.startswith("/") and target.startswith("/") and ".." not in target.split("/")
    if not is_whole or mode not in ("", "ro", "rw"):
        raise click.UsageError(f"--volume {text}: write /FOLDER/THERE:/FOLDER/IN/TASK[:ro]")
    return [source, target, mode == "ro"]


def masked(spec: Json) -> Json:
    """The spec for people to see: that there are private things, not what they are."""
    private = {
        name: [[word, MASK] for word, _ in spec[name]]
        for name in ("private_environment", "secrets")
    }
    return {**spec, **private}


def _content(file: str, bytes_max: int, option: str) -> bytes:
    try:
        with Path(file).expanduser().open("rb") as opened:
            content = opened.read(bytes_max + 1)
    except (OSError, RuntimeError) as error:  # a RuntimeError: ~name, and nobody is called so
        why = error.strerror if isinstance(error, OSError) else "no such user"
        raise ConfigError(f"the file {file} cannot be read: {why}", option) from error
    if len(content) > bytes_max:
        raise ConfigError(f"the file {file} is longer than {bytes_max // 1024} KiB", option)
    return content

"""Private things of a job: read as typed, sent whole, shown to nobody."""

from pathlib import Path

import click
import pytest

from rain.cli.private import private_environment_of, secrets_of, volume_of
from rain.config import ConfigError
from tests.cli.conftest import Rain
from tests.cli.fake_agent import FakeAgent, end


def test_private_things_go_to_the_agent_and_nowhere_else(
    rain: Rain, agent: FakeAgent, tmp_path: Path
) -> None:
    variables, key = tmp_path / "env", tmp_path / "key"
    variables.write_text("TOKEN=hush one\n")
    key.write_bytes(b"\xffhush two")
    agent.on("submit", end(job_id="abc", copies=3, members=3))
    words = ["--image=i", "--env-file", str(variables), "--secret", f"key={key}", "--", "x"]
    told = rain("submit", "-q", *words)
    assert (told.code, told.out, told.err) == (0, "abc\n", "")
    spec = agent.args("submit")["spec"]
    assert spec["private_environment"] == [["TOKEN", "hush one"]]
    assert spec["secrets"] == [["key", "/2h1c2ggdHdv"]]
    assert spec["environment"] == []
    for form in ([], ["--json"]):
        shown = rain("submit", "--dry-run", *form, *words)
        assert shown.code == 0
        assert "hush" not in shown.out and "2h1c2g" not in shown.out  # noqa: PT018
        assert "TOKEN" in shown.out


def test_an_env_file_is_read_as_docker_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERE", "from here")
    monkeypatch.delenv("NOT_HERE", raising=False)
    file = tmp_path / "env"
    file.write_bytes(
        b"\xef\xbb\xbfFIRST=1\r\n# a comment\n\n  LATER = kept as it is \n"
        b'FIRST=a=b # no comment\nHERE\nNOT_HERE\nEMPTY=\nQUOTED="q"\n'
    )
    with pytest.raises(ConfigError, match="line 4 is not K=V"):
        private_environment_of(str(file))
    file.write_bytes(file.read_bytes().replace(b"LATER =", b"LATER="))
    assert private_environment_of(str(file)) == [
        ("EMPTY", ""),
        ("FIRST", "a=b # no comment"),
        ("HERE", "from here"),
        ("LATER", " kept as it is "),
        ("QUOTED", '"q"'),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"A=1\n=hush\n", "line 2 is not K=V"),
        (b"A=1\n\n hu sh=1", "line 3 is not K=V"),
        (b"A=hush\0", "line 1 is not K=V"),
        (b"A=\xffhush", "line 1 is not UTF-8"),
        (b"A=" + b"hush" * 40_000, "line 1 is too long"),
        (b"A=hush\n" * 200_000, "longer than 1024 KiB"),
    ],
)
def test_an_error_names_the_line_and_not_what_is_in_it(
    tmp_path: Path, content: bytes, words: str
) -> None:
    file = tmp_path / "env"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        private_environment_of(str(file))
    assert words in raised.value.message
    assert "hush" not in raised.value.message + raised.value.hint


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".", "1a", "a b", "a" * 64])
def test_a_secret_needs_a_name_that_a_file_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(click.UsageError):
        secrets_of((f"{name}={tmp_path / 'f'}",))


def test_secrets_are_bounded(tmp_path: Path) -> None:
    half, more = tmp_path / "half", tmp_path / "more"
    half.write_bytes(b"h" * 32 * 1024)
    more.write_bytes(b"h" * (64 * 1024 + 1))
    assert [name for name, _ in secrets_of((f"b={half}", f"a={half}"))] == ["a", "b"]
    with pytest.raises(ConfigError, match="more than 64 KiB together"):
        secrets_of((f"a={half}", f"b={half}", f"c={half}"))
    with pytest.raises(ConfigError, match="longer than 64 KiB"):
        secrets_of((f"a={more}",))
    with pytest.raises(ConfigError, match="cannot be read"):
        secrets_of((f"a={tmp_path / 'none'}",))
    with pytest.raises(click.UsageError, match="twice"):
        secrets_of((f"a={half}", f"a={half}"))


@pytest.mark.parametrize("text", ["", "/a", "a:/b", "/a:b", "/a:/b:no", "/a:/b/../c", "/a:/b:ro:x"])
def test_what_is_no_volume(text: str) -> None:
    with pytest.raises(click.UsageError):
        volume_of(text)


def test_a_plain_process_gets_no_volume(rain: Rain) -> None:
    told = rain("submit", "--executor", "process", "--volume", "/a:/b", "--", "x")
    assert (told.code, "cannot enforce --volume" in told.err) == (2, True)


@pytest.mark.parametrize("option", ["--env-file=~nobody-here/f", "--secret=k=~nobody-here/f"])
def test_a_home_that_is_not_known_is_told_in_words(rain: Rain, option: str) -> None:
    told = rain("submit", "--dry-run", "--image=i", option, "--", "x")
    assert told.code == 2
    assert "the file ~nobody-here/f cannot be read: no such user" in told.err

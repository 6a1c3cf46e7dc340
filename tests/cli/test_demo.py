"""The parts of the demo that need no pool: which image it finds, which ports it takes."""

import socket
from pathlib import Path

import pytest

from rain.cli.demo import free_ports
from rain.cli.images import find_image


def _docker(folder: Path, monkeypatch: pytest.MonkeyPatch, answers: str) -> None:
    """Puts a docker command in the PATH that succeeds where the shell pattern fits its words."""
    folder.mkdir()
    script = folder / "docker"
    script.write_text(f'#!/bin/sh\ncase "$*" in {answers}) exit 0;; *) exit 1;; esac\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(
    ("answers", "image", "why"),
    [
        ("version*|*'inspect rain-demo'|*'inspect alpine'", "rain-demo", ""),
        ("version*|*'inspect alpine'", "alpine", ""),
        ("version*|pull*", "busybox", ""),
        ("version*", "", "no image"),
        ("*inspect*", "", "no Docker engine answers"),
    ],
)
def test_the_image_is_found_or_the_reason_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: str, image: str, why: str
) -> None:
    _docker(tmp_path / "bin", monkeypatch, answers)
    found, reason = find_image()
    assert found == image
    assert why in reason


def test_without_docker_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_image() == ("", "there is no docker command on this PC")


def test_free_ports_are_free_for_both_protocols() -> None:
    ports = free_ports(3)
    assert len(dict.fromkeys(ports)) == 3
    for port in ports:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as one:
                one.bind(("127.0.0.1", port))

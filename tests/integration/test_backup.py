"""A pool that burnt down comes back from one file, and a second of a PC harms nobody."""

import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import SHARE
from tests.testbed.lan import Lan, Pc, found_pool, wait_agreed, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.lan]

PASSPHRASE = "correct horse battery"


def _saved(pc: Pc, *words: str) -> Path:
    """A backup of that PC."""
    secret = pc.folder / "passphrase"
    secret.write_text(PASSPHRASE)
    file = pc.folder / "backup"
    done = pc.rain("backup", str(file), "--force", "--passphrase-file", str(secret), *words)
    assert done.returncode == 0, done.stderr
    return file


def _restored(pc: Pc, file: Path) -> None:
    secret = pc.folder / "passphrase"
    secret.write_text(PASSPHRASE)
    done = pc.rain("restore", str(file), "--passphrase-file", str(secret))
    assert done.returncode == 0, done.stderr


def test_a_pool_that_burnt_down_comes_back(empty_lan: Lan) -> None:
    founder, other = pcs = empty_lan.add(2)
    found_pool(pcs, *SHARE)
    job_id = founder.rain("submit", "-d", "--image", "none/such:1", "--", "true").stdout.strip()
    file = _saved(founder, "--with-keys")
    members = {row["name"] for row in founder.ask("members")["members"]}
    for pc in pcs:
        pc.kill()
        shutil.rmtree(pc.data_dir)

    _restored(founder, file)
    founder.up(*SHARE)
    founder.wait_ready()
    assert founder.ask("status")["role"] == "admin"
    assert founder.ask("status")["disk"]["state"] == "repaired"
    assert {row["name"] for row in founder.ask("members")["members"]} == members
    assert founder.ask("job", job_id)["id"] == job_id

    token = founder.folder / "token"
    token.write_text(founder.rain("invite", "--token", "-q").stdout)
    other.up("--join-file", str(token), "--name", "phoenix", *SHARE)
    wait_agreed(pcs)
    assert other.ask("job", job_id)["id"] == job_id


def test_a_restore_beside_a_living_pool_harms_nobody(empty_lan: Lan) -> None:
    pcs = empty_lan.add(3)
    founder, other, third = pcs
    found_pool([founder, other], *SHARE)
    file = _saved(founder, "--with-keys")
    later = other.rain("submit", "-d", "--image", "none/such:1", "--", "true").stdout.strip()

    _restored(third, file)
    third.up(*SHARE)
    third.wait_ready()
    gone = wait_until(lambda: _word_of_the_end(founder), 60, "the PC that was doubled ends")
    assert "identity" in gone
    wait_until(lambda: _knows(third, later), 60, "what the copy did not know has come back")
    wait_agreed([other, third])
    assert other.ask("job", later)["id"] == later


def _word_of_the_end(pc: Pc) -> str:
    told = pc.rain("status")
    return told.stderr if told.returncode == 3 else ""


def _knows(pc: Pc, job_id: str) -> bool:
    told = pc.try_ask("job", job_id)
    return told is not None and told.get("id") == job_id

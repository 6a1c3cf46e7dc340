"""backup, restore and repair as they are typed, with nobody at a terminal."""

import asyncio
import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rain.agent import backup as form
from rain.agent.recollection import STORE_FILE
from rain.mesh import keys
from rain.store import Store
from tests.agent.desk import OneNode
from tests.cli.conftest import Rain
from tests.cli.fake_agent import FakeAgent, end


@pytest.fixture(autouse=True)
def quick_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guess may be cheap here."""
    monkeypatch.setattr(form, "SCRYPT_N", 2)


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.write_text("correct horse battery\nand more\n")
    return str(path)


@pytest.fixture
def founded(data_dir: Path) -> OneNode:
    async def found() -> OneNode:
        made = OneNode(data_dir)
        await made.store.close()
        return made

    made = asyncio.run(found())
    keys.keep_pool(data_dir, made.pool)
    (data_dir / "store.db").replace(data_dir / STORE_FILE)
    (data_dir / "store.db.mark").unlink()
    return made


def test_a_backup_asks_the_agent(
    rain: Rain, founded: OneNode, agent: FakeAgent, tmp_path: Path, secret: str
) -> None:
    row = ["job/a", base64.b64encode(b"content").decode()]
    agent.on("backup", {"item": {"rows": [row]}}, end(rows=1))
    file = tmp_path / "b"
    told = rain("backup", str(file), "--passphrase-file", secret, "--json")
    assert told.code == 0
    assert told.json == {
        "file": str(file), "bytes": file.stat().st_size, "pool": "attic", "jobs": 1,
        "encrypted": True, "keys": False, "left_out": 0,
    }  # fmt: skip
    assert form.read_file(file, "correct horse battery").rows == {"job/a": b"content"}


def test_a_backup_reads_the_folder_where_no_agent_runs_and_a_restore_brings_it_back(
    rain: Rain, founded: OneNode, tmp_path: Path, secret: str
) -> None:
    file, folder = str(tmp_path / "b"), str(tmp_path / "new")
    words = ("--passphrase-file", secret)
    assert rain("backup", file, "--with-keys", *words).code == 0
    told = rain("--data-dir", folder, "restore", file, *words)
    assert told.code == 0
    assert "as an admin" in told.out
    assert "must not run any more" in told.err
    assert rain("--data-dir", folder, "repair").out.startswith("the store is whole")

    again = rain("--data-dir", folder, "restore", file, *words)
    assert again.code == 1
    assert "not empty" in again.err


def test_what_does_not_go_together_is_said(
    rain: Rain, founded: OneNode, tmp_path: Path, secret: str
) -> None:
    file = str(tmp_path / "b")
    for words, told in (
        (("--plain", "--with-keys"), "choose one"),
        (("--plain", "--passphrase-file", secret), "needs no passphrase"),
        ((), "no terminal to ask at"),
        (("--passphrase-file", str(tmp_path / "none")), "cannot be read"),
    ):
        ended = rain("backup", file, *words)
        assert ended.code == 2
        assert told in ended.err
    short = tmp_path / "short"
    short.write_text("short")
    assert "8 characters" in rain("backup", file, "--passphrase-file", str(short)).err
    assert rain("backup", file, "--plain").code == 0
    refused = rain("restore", file, "--phrase-file", secret)
    assert (refused.code, "encrypted backup" in refused.err) == (2, True)
    refused = rain("restore", file, "--plain", "--passphrase-file", secret)
    assert (refused.code, "needs no passphrase" in refused.err) == (2, True)
    assert "there already" in rain("backup", file, "--plain").err
    assert rain("backup", file, "--plain", "--force").code == 0


def test_a_plain_file_is_restored_only_where_one_is_asked_for(
    rain: Rain, founded: OneNode, tmp_path: Path, secret: str
) -> None:
    plain, sealed = str(tmp_path / "plain"), str(tmp_path / "sealed")
    folder = tmp_path / "new"
    to_new = ("--data-dir", str(folder), "restore")
    assert rain("backup", plain, "--plain").code == 0
    assert rain("backup", sealed, "--passphrase-file", secret).code == 0

    for words in ((), ("--passphrase-file", secret)):
        refused = rain(*to_new, plain, *words)
        assert refused.code == 1
        assert "is not encrypted" in refused.err
        assert "--plain" in refused.err
    mixed_up = rain(*to_new, sealed, "--plain")
    assert (mixed_up.code, "is encrypted" in mixed_up.err) == (1, True)
    assert not folder.exists()
    assert rain(*to_new, plain, "--plain").code == 0


def test_a_pc_in_no_pool_has_nothing_to_back_up(rain: Rain, tmp_path: Path) -> None:
    assert rain("backup", str(tmp_path / "b"), "--plain").code == 4


def test_no_backup_is_no_backup(rain: Rain, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"x")
    ended = rain("--data-dir", str(tmp_path / "new"), "restore", str(tmp_path / "b"))
    assert (ended.code, "no backup of Rain" in ended.err) == (1, True)
    assert not (tmp_path / "new").exists()


def test_a_damaged_store_ends_up_and_is_repaired(
    rain: Rain, founded: OneNode, data_dir: Path
) -> None:
    async def write() -> None:
        store = Store.open(data_dir / STORE_FILE)
        await store.write([("trust/ring", b"the only ring")], ())
        await store.close()

    asyncio.run(write())
    path = data_dir / STORE_FILE
    path.write_bytes(path.read_bytes().replace(b"the only ring", b"The only ring"))
    words = [sys.executable, "-m", "rain", "--data-dir", str(data_dir), "up", "--json"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 7
    error = json.loads(ended.stdout)["error"]
    assert error["code"] == "disk"
    assert error["hint"].endswith(f": rain --data-dir {data_dir} repair")
    told = rain("repair", "--json").json
    assert told["kept_as"] == f"{path}.damaged-1"
    assert rain("repair").out.startswith("the store is whole")


def test_where_there_is_no_store_repair_says_so(rain: Rain) -> None:
    ended = rain("repair")
    assert (ended.code, "there is no store" in ended.err) == (1, True)


def test_a_store_in_use_is_not_repaired(rain: Rain, agent: FakeAgent, data_dir: Path) -> None:
    told = rain("--data-dir", str(data_dir), "repair")
    assert told.code == 1
    assert told.err == (
        f"rain: an agent runs on {data_dir}: a store in use cannot be repaired · "
        f"stop it first: rain --data-dir {data_dir} down; then: rain --data-dir {data_dir} repair\n"
    )
    assert agent.verbs() == []

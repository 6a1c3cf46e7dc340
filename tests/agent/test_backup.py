"""A backup is whole or it is refused; what is secret is sealed or it is not there; and from its
file alone a pool comes back."""

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rain.agent import backup
from rain.agent.backup import BackupError, Entry, Head, chosen, entries, pieces, read_file
from rain.agent.backup_verb import BackupVerb
from rain.agent.control import End, Item
from rain.agent.recollection import POOL_KEY, STORE_FILE
from rain.agent.restore import restore
from rain.effects import Record
from rain.election.records import BehindRecord
from rain.mesh import codec, keys
from rain.mesh.errors import MeshError
from rain.model import Epoch, JobSpec, NodeId, Stage
from rain.sched.messages import Cell
from rain.sched.records import AttemptRow, JobRow, TaskRow
from rain.store import Store
from rain.trust.messages import RingKey
from rain.trust.records import RingRow
from tests.agent.desk import OneNode
from tests.sched.samples import make_attempt

PASSPHRASE = "correct horse battery"
SECRET = b"hunter2 hunter2"
POOL_SECRET = b"pool key pool key pool key pool!"
PLAIN_HEAD = Head(1, "now", "attic", "00", "desk", is_encrypted=False, has_keys=False)
HEAD = msgspec.structs.replace(PLAIN_HEAD, is_encrypted=True)


@pytest.fixture(autouse=True)
def quick_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guess may be cheap here."""
    monkeypatch.setattr(backup, "SCRYPT_N", 2)


def _rows(desk: OneNode) -> dict[str, bytes]:
    """A job, one with a secret, and all kinds of what else a store has."""
    open_job = desk.job(JobSpec(("true",)))
    private = desk.job(JobSpec(("true",), secrets=(("key", SECRET),)), nonce=b"m")
    attempt = make_attempt(open_job)
    epoch = Epoch(1, NodeId("n"), 7)
    records: list[Record] = [
        JobRow(open_job),
        JobRow(private),
        TaskRow(private.job_id, 0, Cell(epoch=epoch, turn=1)),
        AttemptRow(attempt, Stage.RUNNING),
        RingRow((RingKey(1, POOL_SECRET),)),
    ]
    rows = {record.key(): codec.encode_record(record) for record in records}
    return {**rows, POOL_KEY: desk.pool.root, "agent/boot": b"\0" * 8}


@pytest.fixture
def desk(tmp_path: Path) -> OneNode:
    folder = tmp_path / "desk"
    folder.mkdir(mode=0o700)

    async def found() -> OneNode:
        made = OneNode(folder)
        await made.store.close()
        return made

    made = asyncio.run(found())
    keys.keep_pool(folder, made.pool)
    return made


@pytest.fixture
def made(desk: OneNode, tmp_path: Path) -> Callable[..., Path]:
    """A backup of that desk."""

    def make(head: Head = HEAD, name: str = "b") -> Path:
        rows, _ = chosen(_rows(desk), is_plain=not head.is_encrypted)
        files = backup.files_of(desk.folder, has_keys=head.has_keys)
        path = tmp_path / name
        content = pieces(head, PASSPHRASE, entries(rows, files))
        backup.write_file(path, content, is_forced=False)
        return path

    return make


def _kept(folder: Path) -> dict[str, bytes]:
    async def read() -> dict[str, bytes]:
        store = Store.open(folder / STORE_FILE)
        rows = dict(store.read_all())
        await store.close()
        return rows

    return asyncio.run(read())


# --- What is in it -------------------------------------------------------------------------------


def test_a_plain_backup_has_nothing_secret(made: Callable[..., Path], desk: OneNode) -> None:
    content = made(PLAIN_HEAD).read_bytes()
    for secret in (SECRET, POOL_SECRET, (desk.folder / keys.NODE_KEY_FILE).read_bytes()[30:60]):
        assert secret not in content
    rows, left_out = chosen(_rows(desk), is_plain=True)
    assert left_out == 1
    assert [key.split("/")[0] for key in rows] == ["job"]


def test_rows_of_a_kind_that_plain_does_not_name_stay_out() -> None:
    assert chosen({"aside/j/0": b"a spec", "new/kind": b"x"}, is_plain=True) == ({}, 0)


def test_a_sealed_backup_shows_its_head_alone(made: Callable[..., Path], desk: OneNode) -> None:
    path = made(msgspec.structs.replace(HEAD, has_keys=True))
    content = path.read_bytes()
    assert b"attic" in content
    for secret in (SECRET, POOL_SECRET, (desk.folder / keys.NODE_KEY_FILE).read_bytes()[30:60]):
        assert secret not in content
    opened = read_file(path, PASSPHRASE)
    assert set(opened.files) == {
        "pool.json", "node-key.pem", "certificate.pem", "authority.json", "root.json",
    }  # fmt: skip
    assert sum(key.startswith("job/") for key in opened.rows) == 2
    assert not any(key.startswith(("attempt/", "agent/")) for key in opened.rows)
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_keys_there_is_no_private_key(made: Callable[..., Path]) -> None:
    assert set(read_file(made(), PASSPHRASE).files) == {"pool.json"}


# --- Whole or refused ----------------------------------------------------------------------------

rows_drawn = st.dictionaries(st.text(max_size=20), st.binary(max_size=2_000), max_size=20)


@given(rows_drawn, st.booleans())
@settings(max_examples=30, deadline=None)
def test_what_goes_in_comes_out(rows: dict[str, bytes], is_encrypted: bool) -> None:
    with pytest.MonkeyPatch.context() as small:
        small.setattr(backup, "CHUNK_BYTES", 300)
        head = msgspec.structs.replace(HEAD, is_encrypted=is_encrypted)
        content = b"".join(pieces(head, PASSPHRASE, entries(rows, {"pool.json": b"{}"})))
    opened = _opened(content, _phrase(is_encrypted))
    assert opened.rows == rows
    assert opened.files == {"pool.json": b"{}"}


def _opened(content: bytes, passphrase: str = PASSPHRASE) -> backup.Opened:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return read_file(Path(file.name), passphrase)


def _phrase(is_encrypted: bool) -> str:
    return PASSPHRASE if is_encrypted else ""


def _content(is_encrypted: bool) -> bytes:
    rows = {f"job/{n}": b"x" * 50 for n in range(20)}
    head = msgspec.structs.replace(HEAD, is_encrypted=is_encrypted)
    with pytest.MonkeyPatch.context() as small:
        small.setattr(backup, "CHUNK_BYTES", 300)
        return b"".join(pieces(head, PASSPHRASE, entries(rows, {})))


@pytest.mark.parametrize("is_encrypted", [True, False])
def test_a_backup_that_was_cut_anywhere_is_refused(is_encrypted: bool) -> None:
    content = _content(is_encrypted)
    for length in range(0, len(content), 7):
        with pytest.raises(BackupError):
            _opened(content[:length], _phrase(is_encrypted))


@pytest.mark.parametrize("is_encrypted", [True, False])
def test_a_backup_with_any_byte_changed_is_refused(is_encrypted: bool) -> None:
    content = _content(is_encrypted)
    for at in range(0, len(content), 5):
        changed = bytearray(content)
        changed[at] ^= 1
        with pytest.raises(BackupError):
            _opened(bytes(changed), _phrase(is_encrypted))
    with pytest.raises(BackupError):
        _opened(content + b"\0\0\0\0", _phrase(is_encrypted))


def test_chunks_cannot_be_swapped_or_left_out() -> None:
    content = _content(True)
    head = content.index(b"}\n") + 2
    ends, at = [head], head
    while at < len(content):
        at += 4 + int.from_bytes(content[at : at + 4], "big")
        ends.append(at)
    first, second = content[ends[0] : ends[1]], content[ends[1] : ends[2]]
    rest = content[ends[2] :]
    assert rest
    for wrong in (second + first + rest, first + rest, first, first + second):
        with pytest.raises(BackupError):
            _opened(content[:head] + wrong)
    assert _opened(content[:head] + first + second + rest).rows


def test_a_wrong_passphrase_is_told(made: Callable[..., Path]) -> None:
    with pytest.raises(BackupError, match="the passphrase is wrong"):
        read_file(made(), "something else")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no backup of Rain"),
        (b"PK\x03\x04 a zip", "no backup of Rain"),
        (backup.MAGIC + b'{"format": 2}\n', "newer Rain"),
        (backup.MAGIC + b"[]\n", "cut short, damaged"),
        (backup.MAGIC + b"[" * 3_000 + b"\n", "cut short, damaged"),
        (backup.MAGIC + b'{"format": "1"}\n', "cut short, damaged"),
    ],
)
def test_other_files_are_told_apart(content: bytes, words: str) -> None:
    with pytest.raises(BackupError, match=words):
        _opened(content)


def test_a_plain_file_is_not_taken_for_the_sealed_one_it_replaced() -> None:
    content = _content(is_encrypted=False)
    with pytest.raises(BackupError, match="not encrypted") as refused:
        _opened(content, PASSPHRASE)
    assert "--plain" in refused.value.hint
    assert _opened(content, "").rows


def test_a_plain_file_that_says_it_has_keys_is_none_of_ours() -> None:
    head = msgspec.structs.replace(PLAIN_HEAD, has_keys=True)
    with pytest.raises(BackupError, match="damaged or was changed"):
        _opened(b"".join(pieces(head, "", [Entry(False, "a", b"b")])), "")


def test_a_head_that_wants_all_memory_is_refused() -> None:
    for change in ({"scrypt_n": 2**40}, {"scrypt_r": 1_000}, {"scrypt_n": 12_345}, {"salt": "zz"}):
        told = {**msgspec.to_builtins(HEAD), "scrypt_n": 2, "scrypt_r": 8, "scrypt_p": 1, **change}
        with pytest.raises(BackupError, match="damaged"):
            _opened(backup.MAGIC + msgspec.json.encode(told) + b"\n" + b"\0\0\0\0")


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "b"
    path.write_bytes(b"dear")
    with pytest.raises(BackupError, match="there already"):
        backup.write_file(path, [b"x"], is_forced=False)
    assert path.read_bytes() == b"dear"
    assert backup.write_file(path, [b"x", b"yz"], is_forced=True) == 3
    assert [each.name for each in tmp_path.iterdir()] == ["b"]


def test_a_place_that_takes_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="cannot be written"):
        backup.write_file(tmp_path / "none" / "b", [b"x"], is_forced=False)


# --- The pool comes back -------------------------------------------------------------------------


def test_with_keys_this_pc_is_that_node_again(
    made: Callable[..., Path], desk: OneNode, tmp_path: Path
) -> None:
    opened = read_file(made(msgspec.structs.replace(HEAD, has_keys=True)), PASSPHRASE)
    folder = tmp_path / "new"
    done = restore(folder, opened)
    assert (done.node_id, done.is_admin, done.unread) == (desk.identity.node_id, True, 0)
    assert keys.load_node_key(folder).public_key == desk.signer.public_key
    assert keys.load_pool(folder) == desk.pool
    assert keys.load_root(folder) is not None
    kept = _kept(folder)
    assert kept[POOL_KEY] == desk.pool.root
    assert BehindRecord().key() in kept
    assert sum(key.startswith("job/") for key in kept) == 2
    assert folder.stat().st_mode & 0o777 == 0o700


def test_without_keys_the_jobs_are_here_and_the_pc_is_in_no_pool(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    done = restore(tmp_path / "new", read_file(made(), PASSPHRASE))
    assert (done.node_id, done.is_admin) == ("", False)
    assert keys.load_pool(tmp_path / "new") is None
    assert done.saved["jobs"] == 2


def test_the_twelve_words_make_an_admin(
    made: Callable[..., Path], desk: OneNode, tmp_path: Path
) -> None:
    opened = read_file(made(), PASSPHRASE)
    done = restore(tmp_path / "new", opened, desk.phrase, "phoenix", "anna")
    assert done.is_admin
    assert done.node_id not in ("", desk.identity.node_id)
    assert keys.load_pool(tmp_path / "new") == desk.pool


def test_words_of_another_pool_change_nothing(made: Callable[..., Path], tmp_path: Path) -> None:
    words = "legal winner thank year wave sausage worth useful legal winner thank yellow"
    with pytest.raises(MeshError, match="another pool"):
        restore(tmp_path / "new", read_file(made(), PASSPHRASE), words, "x", "y")
    assert not (tmp_path / "new").exists()


def test_keys_that_are_not_of_the_pool_change_nothing(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    opened = read_file(made(msgspec.structs.replace(HEAD, has_keys=True)), PASSPHRASE)
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    keys.load_node_key(other)
    opened.files[keys.NODE_KEY_FILE] = (other / keys.NODE_KEY_FILE).read_bytes()
    with pytest.raises(BackupError, match="not of its pool"):
        restore(tmp_path / "new", opened)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b", "desk", "other"]


def test_a_folder_that_has_something_is_left_alone(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "theirs").write_bytes(b"dear")
    with pytest.raises(BackupError, match="not empty"):
        restore(folder, read_file(made(), PASSPHRASE))
    assert [each.name for each in folder.iterdir()] == ["theirs"]


def test_rows_of_another_rain_are_left_out_and_counted(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    opened = read_file(made(), PASSPHRASE)
    opened.rows.update({"new/kind": b"\x91\xa3new", "agent/boot": b"x", "job/wrong": b"\x90"})
    assert restore(tmp_path / "new", opened).unread == 3


# --- Asked of the agent --------------------------------------------------------------------------


async def test_the_agent_tells_what_it_keeps(tmp_path: Path) -> None:
    store = Store.open(tmp_path / STORE_FILE)
    rows = [(f"job/{n:04}", b"%d" % n * 100) for n in range(700)]
    await store.write(rows, ())
    told = [piece async for piece in BackupVerb(store).by_name()["backup"]({})]
    assert isinstance(told[-1], End)
    assert told[-1].content == {"rows": 700}
    items = [piece.content["rows"] for piece in told[:-1] if isinstance(piece, Item)]
    assert len(items) == 3
    assert [(key, base64.b64decode(text)) for item in items for key, text in item] == rows
    await store.close()


def test_an_entry_says_what_it_is() -> None:
    entry = Entry(True, "pool.json", b"{}")
    assert msgspec.msgpack.decode(codec.pack(entry), type=Entry) == entry

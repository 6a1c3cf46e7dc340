"""A row and its sum; the mark; and the second name of a journal."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rain.rows import (
    Mark,
    beside,
    is_sound,
    keep_journal,
    mark_in,
    put_journal_back,
    row_sum,
)

STORE = b"8 bytes!"


@given(st.text(), st.binary(), st.integers(0, 2**62), st.data())
def test_any_changed_bit_shows(key: str, value: bytes, number: int, data: st.DataObject) -> None:
    own_sum = row_sum(key, value, number)
    assert is_sound(key, value, number, own_sum)
    assert not is_sound(key, value, number + 1, own_sum)
    assert not is_sound(key + "x", value, number, own_sum)
    if value:
        at = data.draw(st.integers(0, len(value) * 8 - 1))
        changed = bytearray(value)
        changed[at // 8] ^= 1 << at % 8
        assert not is_sound(key, bytes(changed), number, own_sum)


def test_the_sum_is_the_same_for_ever() -> None:
    assert row_sum("k", b"v", 1).hex() == "53c65a8aaa6cfa17", "disks were written with it"


def test_a_row_of_strange_kinds_is_not_sound() -> None:
    own_sum = row_sum("k", b"v", 1)
    for key, value, number in ((b"k", b"v", 1), ("k", "v", 1), ("k", b"v", None), (None, b"v", 1)):
        assert not is_sound(key, value, number, own_sum)


def test_a_mark_is_read_by_its_own_store_alone(tmp_path: Path) -> None:
    path = tmp_path / "rain.db"
    mark = Mark(path, STORE)
    assert mark.number == 0
    mark.write(7)
    mark.write(8)
    mark.close()
    again, other = Mark(path, STORE), Mark(path, b"another!")
    assert (again.number, other.number) == (8, 0)
    again.close()
    other.close()


def test_a_torn_mark_says_nothing(tmp_path: Path) -> None:
    mark = Mark(tmp_path / "rain.db", STORE)
    mark.write(8)
    mark.close()
    whole = beside(tmp_path / "rain.db", ".mark").read_bytes()
    assert mark_in(whole, STORE) == 8
    for torn in (b"", whole[:-1], whole[:8] + bytes([whole[8] ^ 1]) + whole[9:]):
        assert mark_in(torn, STORE) == 0


def test_a_journal_that_was_deleted_is_put_back(tmp_path: Path) -> None:
    path = tmp_path / "rain.db"
    journal = beside(path, "-wal")
    journal.write_bytes(b"frames")
    keep_journal(path)
    journal.unlink()
    put_journal_back(path)
    assert journal.read_bytes() == b"frames"
    assert sorted(tmp_path.iterdir()) == [journal]


def test_a_look_that_was_cut_short_is_looked_at_again(tmp_path: Path) -> None:
    path = tmp_path / "rain.db"
    beside(path, "-wal").write_bytes(b"frames")
    keep_journal(path)
    beside(path, "-wal").unlink()
    keep_journal(path)
    assert beside(path, "-wal").read_bytes() == b"frames"
    put_journal_back(path)
    assert sorted(tmp_path.iterdir()) == [beside(path, "-wal")]

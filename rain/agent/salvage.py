"""What can still be read of a torn store: every row that has its sum, wherever it lies.

This reads SQLite's pages itself (https://sqlite.org/fileformat2.html), since SQLite gives up where
its tree is broken. Page by page the newest image counts: that of the last write-ahead frame of the
file's present life that belongs to a whole transaction, else that of the file. From each page of
rows all rows are taken that have their sum. Where a page gives less than it says, its older images
are asked too, and of one key the row with the largest number stands.

What comes out is never invented: a row has its sum or it is left. It may be older than what was
acknowledged, and a row that was deleted may be back where pages are broken. So whoever uses it
marks the disk as an old one. Rows of version 1 have no sums; they are given apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct

from rain.mesh import codec
from rain.rows import beside, is_sound

PAGE_BYTES = 4_096
"""Of every store of ours; another size is damage of the head."""
PAYLOAD_BYTES_MAX = codec.ENCODED_BYTES_MAX + PAGE_BYTES
"""Of a row: a record, and beside it a key, a number and a sum."""

_FILE_HEAD = 100
_WAL_HEAD = Struct(">8I")
_FRAME = Struct(">6I")
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_LEAF, _INNER = 0x0A, 0x02
"""Kinds of pages of a table without row ids."""
_LOCAL_MAX = (PAGE_BYTES - 12) * 64 // 255 - 23
_LOCAL_MIN = (PAGE_BYTES - 12) * 32 // 255 - 23
_ON_A_PAGE = PAGE_BYTES - 4
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


@dataclass
class Salvaged:
    """What was found."""

    rows: dict[str, bytes] = field(default_factory=dict)
    unsummed: dict[str, bytes] = field(default_factory=dict)
    """Of version 1: whoever takes them judges them by what they say."""
    pages_lost: int = 0
    """Pages of which not all could be read."""
    newest: int = 0
    """The largest number of a write that was seen."""


def salvage(path: Path) -> Salvaged:
    """Read the file and its journal. Raises OSError only."""
    images = _Images(_content(path), _content(beside(path, "-wal")))
    found = Salvaged()
    numbers: dict[str, int] = {}
    free = images.free_pages()
    for page in images.numbers():
        if page in free or page == 1:
            continue
        versions = images.versions(page)
        rows, is_whole = _rows_on(versions[0], images)
        if not is_whole:
            found.pages_lost += 1
            rows += [row for older in versions[1:] for row in _rows_on(older, images)[0]]
        for row in rows:
            _take(row, found, numbers)
    return found


@dataclass(frozen=True)
class _Row:
    key: str
    value: bytes
    number: int
    is_summed: bool


def _take(row: _Row, found: Salvaged, numbers: dict[str, int]) -> None:
    if not row.is_summed:
        found.unsummed.setdefault(row.key, row.value)
        return
    found.newest = max(found.newest, row.number)
    if row.number >= numbers.get(row.key, 0):
        numbers[row.key] = row.number
        found.rows[row.key] = row.value


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


class _Images:
    """All that is known of each page, the newest first."""

    def __init__(self, main: bytes, wal: bytes) -> None:
        self._main = main + bytes(-len(main) % PAGE_BYTES)
        self._frames: dict[int, list[bytes]] = {}
        for number, image in _frames(wal):
            self._frames.setdefault(number, []).insert(0, image)

    def numbers(self) -> list[int]:
        in_file = range(1, len(self._main) // PAGE_BYTES + 1)
        return sorted({*in_file, *self._frames})

    def versions(self, page: int) -> list[bytes]:
        in_file = self._main[(page - 1) * PAGE_BYTES : page * PAGE_BYTES]
        found = list(self._frames.get(page, ()))
        if len(in_file) == PAGE_BYTES:
            found.append(in_file)
        return found

    def newest(self, page: int) -> bytes:
        versions = self.versions(page) if page > 0 else []
        return versions[0] if versions else b""

    def free_pages(self) -> set[int]:
        """Pages that hold nothing now, as far as the list of them can be followed."""
        free: set[int] = set()
        trunk = _u32(self.newest(1), 32)
        while trunk and trunk not in free:
            free.add(trunk)
            page = self.newest(trunk)
            count = _u32(page, 4)
            if count > PAGE_BYTES // 4 - 2:
                break
            free.update(_u32(page, 8 + 4 * at) for at in range(count))
            trunk = _u32(page, 0)
        return free


def _frames(wal: bytes) -> Iterator[tuple[int, bytes]]:
    """Page number and image of each frame of this life of the journal, up to its last commit."""
    step = _FRAME.size + PAGE_BYTES
    frames = []
    salts = _salts(wal)
    for at in range(_WAL_HEAD.size, len(wal) - step + 1, step):
        number, size_after, *own_salts, _, _ = _FRAME.unpack_from(wal, at)
        if tuple(own_salts) == salts:
            image = wal[at + _FRAME.size : at + step]
            frames.append((number, size_after, image))
    last = max((at for at, frame in enumerate(frames) if frame[1]), default=-1)
    for number, _, image in frames[: last + 1]:
        yield number, image


def _salts(wal: bytes) -> tuple[int, ...]:
    """What the frames of the present life have in common; those of the first where in doubt."""
    if len(wal) < _WAL_HEAD.size + _FRAME.size:
        return ()
    head = _WAL_HEAD.unpack_from(wal)
    first = _FRAME.unpack_from(wal, _WAL_HEAD.size)[2:4]
    is_head_whole = head[0] in _WAL_MAGIC and _wal_sum(wal[:24], head[0]) == head[6:8]
    return tuple(head[4:6]) if is_head_whole else tuple(first)


def _wal_sum(content: bytes, magic: int) -> tuple[int, int]:
    order = ">" if magic & 1 else "<"
    first = second = 0
    words = Struct(f"{order}{len(content) // 4}I").unpack(content)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


# --- Pages ---------------------------------------------------------------------------------------


def _rows_on(page: bytes, images: _Images) -> tuple[list[_Row], bool]:
    """The sound rows of a page, and whether that is all it has."""
    if page[0] == 0:  # of a long value, or nothing; nothing at all is no page that SQLite wrote
        return [], any(page)
    if page[0] in (_LEAF, _INNER):
        return _rows_of_kind(page, page[0], images)
    # Whatever it was: sums tell rows from chance.
    return [*_rows_of_kind(page, _LEAF, images)[0], *_rows_of_kind(page, _INNER, images)[0]], False


def _rows_of_kind(page: bytes, kind: int, images: _Images) -> tuple[list[_Row], bool]:
    head, before = (8, 0) if kind == _LEAF else (12, 4)
    count = int.from_bytes(page[3:5], "big")
    is_whole = head + 2 * count <= PAGE_BYTES
    rows = []
    for at in range(head, min(head + 2 * count, PAGE_BYTES - 1), 2):
        try:
            row = _row_at(page, int.from_bytes(page[at : at + 2], "big") + before, images)
        except (IndexError, ValueError):
            is_whole = False
            continue
        if row is not None:
            rows.append(row)
    return rows, is_whole


def _row_at(page: bytes, at: int, images: _Images) -> _Row | None:
    """The row of that cell; None for one of another table. ValueError where it is broken."""
    size, at = _varint(page, at)
    if size > PAYLOAD_BYTES_MAX:
        raise ValueError("no value is that long")
    payload = _payload(page, at, size, images)
    head_size, at = _varint(payload, 0)
    kinds = []
    while at < head_size:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    columns = [_column(payload, kind, start) for kind, start in _starts(kinds, head_size)]
    if len(columns) == 2 and isinstance(columns[0], str) and isinstance(columns[1], bytes):
        return _Row(columns[0], columns[1], 0, is_summed=False)
    if len(columns) == 2 and all(isinstance(column, str) for column in columns):
        return None  # the table of names and versions
    if len(columns) != 4 or not is_sound(*columns):
        raise ValueError("it has not its sum")
    key, value, number, _ = columns
    assert isinstance(key, str)
    assert isinstance(value, bytes)
    assert isinstance(number, int)
    return _Row(key, value, number, is_summed=True)


def _payload(page: bytes, at: int, size: int, images: _Images) -> bytes:
    if size <= _LOCAL_MAX:
        local = size
    else:
        local = _LOCAL_MIN + (size - _LOCAL_MIN) % _ON_A_PAGE
        local = local if local <= _LOCAL_MAX else _LOCAL_MIN
    pieces = [page[at : at + local]]
    left = size - len(pieces[0])
    following = _u32(page, at + local) if left else 0
    visited: set[int] = set()
    while left > 0:
        if following in visited:
            raise ValueError("its pages run in a circle")
        visited.add(following)
        more = images.newest(following)
        if len(more) != PAGE_BYTES:
            raise ValueError("its rest is gone")
        pieces.append(more[4 : 4 + left])
        left -= _ON_A_PAGE
        following = _u32(more, 0)
    return b"".join(pieces)


def _starts(kinds: list[int], at: int) -> Iterator[tuple[int, int]]:
    for kind in kinds:
        yield kind, at
        at += (kind - 12) // 2 if kind >= 12 else _INTEGERS.get(kind, 0)


def _column(payload: bytes, kind: int, at: int) -> object:
    if kind >= 12:
        content = payload[at : at + (kind - 12) // 2]
        return content.decode() if kind % 2 else content
    if kind in (8, 9):
        return kind - 8
    if kind in _INTEGERS:
        return int.from_bytes(payload[at : at + _INTEGERS[kind]], "big", signed=True)
    return None


def _varint(content: bytes, at: int) -> tuple[int, int]:
    number = 0
    for _ in range(8):
        byte = content[at]
        at += 1
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, at
    return number << 8 | content[at], at + 1


def _u32(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 4], "big")

"""Secrets on disk: made once, kept whole, refused when others may read them."""

from pathlib import Path

import pytest

from rain.mesh import keys
from rain.mesh.errors import MeshError
from rain.mesh.token import Pool

POOL = Pool(b"i" * 16, "lab", b"k" * 32)


def test_a_key_is_drawn_once(tmp_path: Path) -> None:
    first = keys.load_node_key(tmp_path)
    again = keys.load_node_key(tmp_path)
    path = tmp_path / keys.NODE_KEY_FILE

    assert first.public_key == again.public_key
    assert keys.ed_verify(again.public_key, first.sign(b"x"), b"x")
    assert not keys.ed_verify(again.public_key, first.sign(b"x"), b"y")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_two_nodes_have_two_keys(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    a, b = keys.load_node_key(tmp_path / "a"), keys.load_node_key(tmp_path / "b")

    assert a.public_key != b.public_key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    keys.load_node_key(tmp_path)
    path = tmp_path / keys.NODE_KEY_FILE
    path.chmod(mode)

    with pytest.raises(MeshError) as raised:
        keys.load_node_key(tmp_path)

    assert f"chmod 600 {path}" in raised.value.hint


DAMAGED = ["", "{", "[]", "null", '{"private_key": 5}', '{"private_key": "zz"}', "[" * 4_000]


@pytest.mark.parametrize("text", [*DAMAGED, '{"private_key": "' + "00" * 32 + '", "node_id": "x"}'])
def test_a_damaged_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / keys.NODE_KEY_FILE
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(MeshError, match="is damaged") as raised:
        keys.load_node_key(tmp_path)

    assert raised.value.hint
    assert path.read_text() == text, "what is there is never overwritten"


def test_no_folder_no_key(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match="cannot use") as raised:
        keys.load_node_key(tmp_path / "missing")

    assert raised.value.hint


def test_a_pool_is_kept_and_forgotten(tmp_path: Path) -> None:
    assert keys.load_pool(tmp_path) is None

    keys.keep_pool(tmp_path, POOL)
    assert keys.load_pool(tmp_path) == POOL
    assert (tmp_path / keys.POOL_FILE).stat().st_mode & 0o777 == 0o600

    keys.forget_pool(tmp_path)
    keys.forget_pool(tmp_path)
    assert keys.load_pool(tmp_path) is None


@pytest.mark.parametrize("text", [*DAMAGED, '{"pool_id": "00", "name": "x", "key": "00"}'])
def test_a_damaged_pool_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / keys.POOL_FILE
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(MeshError, match="is damaged"):
        keys.load_pool(tmp_path)


def test_new_pools_differ() -> None:
    one, other = keys.new_pool("lab"), keys.new_pool("lab")

    assert one.pool_id != other.pool_id
    assert one.key != other.key


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb"])
def test_a_pool_needs_a_name_that_can_be_shown(name: str) -> None:
    with pytest.raises(MeshError) as raised:
        keys.new_pool(name)

    assert raised.value.hint

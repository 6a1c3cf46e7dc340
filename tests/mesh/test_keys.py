"""Secrets on disk: made once, kept whole, refused when others may read them or have copied them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rain.mesh import keys
from rain.mesh.certificates import Authority, Root
from rain.mesh.errors import MeshError
from tests.mesh.certified import CertifiedPool

POOL = CertifiedPool()
BUNDLE = POOL.bundle_of("desk")


def test_a_key_is_drawn_once(tmp_path: Path) -> None:
    first = keys.load_node_key(tmp_path)
    again = keys.load_node_key(tmp_path)

    assert first.public_key == again.public_key
    assert keys.ed_verify(again.public_key, first.sign(b"x"), b"x")
    assert not keys.ed_verify(again.public_key, first.sign(b"x"), b"y")
    assert sorted(each.name for each in tmp_path.iterdir()) == [keys.HOME_FILE, keys.NODE_KEY_FILE]
    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}
    assert b"BEGIN PRIVATE KEY" in (tmp_path / keys.NODE_KEY_FILE).read_bytes()


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
NO_PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQ==\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("text", [*DAMAGED, NO_PEM])
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


# --- copies --------------------------------------------------------------------------------------


def test_a_copied_folder_is_noticed_and_the_way_out_works(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    signer = keys.load_node_key(original)
    shutil.copytree(original, copy)

    with pytest.raises(MeshError, match=f"{copy} is a copy of {original}") as raised:
        keys.load_node_key(copy)
    assert keys.load_node_key(original).public_key == signer.public_key

    assert f"rm {copy / keys.HOME_FILE}" in raised.value.hint
    (copy / keys.HOME_FILE).unlink()
    assert keys.load_node_key(copy).public_key == signer.public_key
    assert keys.load_node_key(copy).public_key == signer.public_key


def test_a_folder_from_another_pc_is_noticed(tmp_path: Path) -> None:
    keys.load_node_key(tmp_path)
    path = tmp_path / keys.HOME_FILE
    home = json.loads(path.read_text())
    if not home["machine"]:
        pytest.skip("this machine has no id")
    path.write_text(json.dumps({**home, "machine": "0" * 32}))

    with pytest.raises(MeshError, match="is a copy from another PC") as raised:
        keys.load_node_key(tmp_path)

    assert raised.value.hint


def test_a_folder_that_was_moved_is_at_home_again(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    signer = keys.load_node_key(old)
    old.rename(new)

    assert keys.load_node_key(new).public_key == signer.public_key
    shutil.copytree(new, old)
    with pytest.raises(MeshError, match="is a copy of"):
        keys.load_node_key(old)


def test_another_name_of_the_same_folder_is_no_copy(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    signer = keys.load_node_key(folder)
    link.symlink_to(folder)

    assert keys.load_node_key(link).public_key == signer.public_key
    assert keys.load_node_key(folder).public_key == signer.public_key


# --- the pool ------------------------------------------------------------------------------------

KEEP: dict[str, Callable[[Path], None]] = {
    keys.POOL_FILE: lambda folder: keys.keep_pool(folder, POOL.pool),
    keys.CERTIFICATE_FILE: lambda folder: keys.keep_certificate(folder, BUNDLE),
    keys.AUTHORITY_FILE: lambda folder: keys.keep_authority(folder, POOL.authority),
    keys.ROOT_FILE: lambda folder: keys.keep_root(folder, POOL.root),
}
LOAD: dict[str, Callable[[Path], Any]] = {
    keys.POOL_FILE: keys.load_pool,
    keys.CERTIFICATE_FILE: keys.load_certificate,
    keys.AUTHORITY_FILE: keys.load_authority,
    keys.ROOT_FILE: keys.load_root,
}


def test_what_makes_a_member_is_kept_and_forgotten(tmp_path: Path) -> None:
    signer = keys.load_node_key(tmp_path)
    assert [load(tmp_path) for load in LOAD.values()] == [None] * 4

    for keep in KEEP.values():
        keep(tmp_path)
    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}
    assert keys.load_pool(tmp_path) == POOL.pool
    assert keys.load_certificate(tmp_path) == BUNDLE
    authority, root = keys.load_authority(tmp_path), keys.load_root(tmp_path)
    assert isinstance(authority, Authority)
    assert isinstance(root, Root)
    assert authority.private_key == POOL.authority.private_key
    assert (authority.node_id, authority.generation) == (POOL.authority.node_id, 1)
    assert root.private_key == POOL.root.private_key

    keys.forget_authority(tmp_path)
    assert keys.load_authority(tmp_path) is None
    assert keys.load_certificate(tmp_path) == BUNDLE
    keys.forget_pool(tmp_path)
    keys.forget_pool(tmp_path)
    assert [load(tmp_path) for load in LOAD.values()] == [None] * 4
    assert keys.load_node_key(tmp_path).public_key == signer.public_key


@pytest.mark.parametrize("name", LOAD)
@pytest.mark.parametrize("text", [*DAMAGED, NO_PEM, '{"name": "x", "root": "00"}'])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(MeshError, match="is damaged") as raised:
        LOAD[name](tmp_path)

    assert raised.value.hint


def test_a_key_of_another_authority_is_refused(tmp_path: Path) -> None:
    keys.keep_authority(tmp_path, POOL.authority)
    path = tmp_path / keys.AUTHORITY_FILE
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "private_key": POOL.root.private_key.hex()}))

    with pytest.raises(MeshError, match="is damaged"):
        keys.load_authority(tmp_path)


def test_what_is_kept_fits_into_its_file(tmp_path: Path) -> None:
    keys.keep_root(tmp_path, POOL.root)

    assert all(each.stat().st_size < keys.FILE_BYTES_MAX // 2 for each in tmp_path.iterdir())


def test_what_a_crash_has_left_of_a_write_is_removed(tmp_path: Path) -> None:
    kept = [tmp_path / ".root.json.notours", tmp_path / ".other.json.00112233"]
    for begin in (keys.load_node_key, keys.forget_pool):
        left = [tmp_path / ".root.json.00112233", tmp_path / ".node-key.pem.8899aabb"]
        for path in (*left, *kept):
            path.write_text("secret")
        begin(tmp_path)
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in kept)

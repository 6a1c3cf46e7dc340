"""A pool begins: its root, its first admin, its first key.

The root follows from 16 random bytes, which the person at the founding PC is shown as twelve words,
once. Nobody else ever sees them; who types them on a member's PC (`rain recover`) makes that PC an
admin and a keeper of the root, whatever has become of the others.
"""

import secrets
from pathlib import Path

from rain.agent.authority import new_authority
from rain.claims import Signer, node_id_of
from rain.mesh import keys
from rain.mesh.certificates import (
    make_root,
    reason_unshowable,
)
from rain.mesh.door import PoolKey
from rain.mesh.envelope import POOL_KEY_BYTES
from rain.mesh.errors import MeshError
from rain.mesh.phrase import ENTROPY_BYTES, phrase_of
from rain.mesh.pool import Pool
from rain.model import Role, Value

FIRST_KEY = 1
FIRST_GENERATION = 1


class Founded(Value, frozen=True):
    """A pool of one."""

    pool: Pool
    bundle: bytes
    key: PoolKey
    phrase: str
    """Shown once, and kept nowhere."""

    def __repr__(self) -> str:
        """Without the phrase, so that no log or traceback tells it."""
        return f"Founded({self.pool.name!r})"


def found_pool(
    folder: Path, signer: Signer, *, pool_name: str, node_name: str, person: str, now_unix_s: int
) -> Founded:
    """Found a pool whose first admin is this node. What it issues with is kept in the folder;
    that this PC is in that pool is kept when its store is (recollection.py)."""
    reason = reason_unshowable(person)
    if reason:
        raise MeshError(f"no person can be called {person!r}: {reason}", "choose another name")
    entropy = secrets.token_bytes(ENTROPY_BYTES)
    root = make_root(entropy, pool_name, now_unix_s)
    authority = new_authority(root, node_id_of(signer.public_key), FIRST_GENERATION, now_unix_s)
    bundle = authority.issue(
        signer.public_key,
        name=node_name,
        role=Role.ADMIN,
        person=person,
        generation=FIRST_GENERATION,
        invite_id="",
        now_unix_s=now_unix_s,
    )
    keys.keep_root(folder, root)
    keys.keep_authority(folder, authority)
    keys.keep_certificate(folder, bundle)
    key = PoolKey(FIRST_KEY, secrets.token_bytes(POOL_KEY_BYTES))
    return Founded(root.pool, bundle, key, phrase_of(entropy))


def founder_words(founded: Founded) -> str:
    """What the person at the terminal is told, this once."""
    words = founded.phrase.split()
    half = len(words) // 2
    return (
        f"Founded pool {founded.pool.name!r}; this PC is its first admin.\n"
        "Write these words down and keep them from others. They are shown this once; with them,\n"
        "`rain recover` on any PC of the pool brings its root back if this PC is lost:\n"
        f"\n    {' '.join(words[:half])}\n    {' '.join(words[half:])}\n"
    )

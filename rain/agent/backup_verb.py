"""The verb `backup` of the control socket: the rows of the store, as of one moment.

They are sealed and written by the command that asks, so the passphrase comes nowhere near here.
"""

import base64
from collections.abc import AsyncIterator

from rain.agent.control import End, Item, Json, Verb, VerbError
from rain.store import Store, StoreError

ROWS_IN_ONE_GO = 256
BYTES_IN_ONE_GO = 1024 * 1024
"""Told in one piece; then whatever else waits has its turn."""


class BackupVerb:
    """Tells its own person all that this PC keeps."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def by_name(self) -> dict[str, Verb]:
        return {"backup": self.backup}

    async def backup(self, args: Json) -> AsyncIterator[Item | End]:
        try:
            rows = await self._store.snapshot()
        except StoreError as error:
            raise VerbError("disk", error.message, error.hint, 1) from error
        piece: list[list[str]] = []
        length = 0
        for key, value in rows:
            piece.append([key, base64.b64encode(value).decode()])
            length += len(value)
            if len(piece) >= ROWS_IN_ONE_GO or length >= BYTES_IN_ONE_GO:
                yield Item({"rows": piece})
                piece, length = [], 0
        yield Item({"rows": piece})
        yield End({"rows": len(rows)})

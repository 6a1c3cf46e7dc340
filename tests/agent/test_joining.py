"""Contacts that no resolver takes cost nothing but themselves."""

from pathlib import Path

from rain.agent.joining import resolve_contacts
from rain.config import UpOptions
from rain.model import Address


async def test_a_contact_that_is_no_name_is_left_out(tmp_path: Path) -> None:
    # The first one is a label of 63 letters, but no longer once it is written in ASCII.
    contacts = ("ü" * 63, "127.0.0.1:99")
    options = UpOptions(tmp_path, name="blue", contacts=contacts)
    assert await resolve_contacts(options) == (Address("127.0.0.1", 99),)

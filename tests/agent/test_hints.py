"""Whoever may not do something is told where it may be typed, and what helps if that PC is gone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rain.agent.rights import NO_ADMIN_BACK, NO_ADMIN_LEFT, admins_pc
from rain.mesh.errors import MeshError
from rain.model import Role
from tests.agent.asking import certify
from tests.agent.desk import Nowhere, OneNode


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[OneNode]:
    one = OneNode(tmp_path)
    one.driver.connect(Nowhere(), Nowhere())
    yield one
    await one.store.close()


async def test_the_phrase_helps_where_the_only_admin_may_be_gone_for_good(node: OneNode) -> None:
    assert NO_ADMIN_BACK.startswith("if none comes back: rain recover")
    assert admins_pc(node.driver.node.trust) == f"type it on an admin's PC: desk; {NO_ADMIN_BACK}"
    certify(node, "desk", Role.MEMBER, "anna", is_itself=True)
    assert admins_pc(node.driver.node.trust) == NO_ADMIN_LEFT


async def test_who_may_not_invite_is_told_the_same(node: OneNode) -> None:
    certify(node, "studio", Role.ADMIN, "bert")
    certify(node, "desk", Role.MEMBER, "anna", is_itself=True)
    with pytest.raises(MeshError) as refused:
        node.admission.invites.open_code()
    assert refused.value.hint == f"type it on an admin's PC: studio; {NO_ADMIN_BACK}"

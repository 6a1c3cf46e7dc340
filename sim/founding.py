"""A pool as it was before a run: everybody let in, everybody knowing everybody."""

import random
from collections.abc import Sequence

from rain.mesh import codec
from rain.model import Role
from rain.trust.records import rows_of

from .credentials import FIRST_KEY_NUMBER, Charter
from .host import Host
from .world import pick


def found(charter: Charter, hosts: Sequence[Host], dice: random.Random) -> None:
    """Certificates by the admins, and the first pool key, on everybody's disk."""
    admins = [host for host in hosts if host.role is Role.ADMIN]
    for host in admins:
        charter.empower(host.signer)
    for host in hosts:
        issuer = host if host in admins else pick(dice, admins)
        charter.bundles[host.node_id] = charter.authorities[issuer.node_id].issue(
            host.signer.public_key,
            name=host.name,
            role=host.role,
            person=host.person,
            generation=1,
        )
    rows = rows_of(charter.bundles.values(), (), [(FIRST_KEY_NUMBER, charter.first_key)])
    for host in hosts:
        host.disk.rows.update({row.key(): codec.encode_record(row) for row in rows})

"""A pool with certificates for the tests: a root, its first admin, and members with real keys."""

from hashlib import sha256
from pathlib import Path

from rain.mesh import keys
from rain.mesh.certificates import Authority, make_inspect, make_root, public_key_of
from rain.mesh.envelope import node_id_of
from rain.mesh.keys import EdSigner
from rain.mesh.tls import TlsIdentity
from rain.model import NodeId, Role
from rain.trust.credential import Credential

NOW_UNIX_S = 1_700_000_000


def private_key_of(name: str) -> bytes:
    """The same key for the same name, so that histories have the same ids."""
    return sha256(name.encode()).digest()


def node_of(name: str) -> NodeId:
    return node_id_of(public_key_of(private_key_of(name)))


class CertifiedPool:
    """Issues what members show."""

    def __init__(self, name: str = "attic", entropy: bytes = b"sixteen bytes..!") -> None:
        self.now_unix_s = NOW_UNIX_S
        self.root = make_root(entropy, name, NOW_UNIX_S)
        self.pool = self.root.pool
        self.inspect = make_inspect(self.pool)
        self.authority = self.authority_of("admin")

    def authority_of(self, admin: str) -> Authority:
        private_key = private_key_of(f"authority of {admin} in {self.pool.root_key.hex()}")
        public_key = public_key_of(private_key)
        certificate = self.root.certify(public_key, node_of(admin), 1, self.now_unix_s)
        return Authority(private_key, certificate)

    def bundle_of(
        self,
        name: str,
        role: Role = Role.MEMBER,
        generation: int = 1,
        authority: Authority | None = None,
        now_unix_s: int = 0,
    ) -> bytes:
        return (authority or self.authority).issue(
            public_key_of(private_key_of(name)),
            name=name,
            role=role,
            person="ann",
            generation=generation,
            invite_id="",
            now_unix_s=now_unix_s or self.now_unix_s,
        )

    def credential_of(self, bundle: bytes) -> Credential:
        credential = self.inspect(bundle)
        assert credential is not None, "a bundle of another pool"
        return credential

    def identity_of(self, name: str, folder: Path, bundle: bytes = b"") -> TlsIdentity:
        """What that member speaks TLS with; its files are in the folder."""
        folder.mkdir(exist_ok=True)
        keys.keep_node_key(folder, EdSigner(private_key_of(name)))
        keys.keep_certificate(folder, bundle or self.bundle_of(name))
        return TlsIdentity(folder, self.pool)

"""A certificate authority for one cluster, and certificates for its nodes: python certificates.py DIRECTORY NODE ...

Each NODE is the id of a node, or ID=HOST with the host by which others reach it, which is "localhost" otherwise. The directory
gets `ca.pem`, which every node needs; `ca.key`, which no node needs, so keep it elsewhere; and for each node `ID.pem` and
`ID.key`. Call it again, with an authority that is there already, to add nodes or to renew their certificates.

It needs the package `cryptography`: pip install 'gossipmonger[secure]'
"""

from __future__ import annotations

import ipaddress
import os
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Authority:
    """Signs certificates. Whoever has one of these takes part in the cluster.

    Args:
        directory: Where everything is written; an authority that is there is used.
        name: What the authority is called.
    """

    def __init__(self, directory: Path, name: str = "gossipmonger") -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        if (directory / "ca.key").exists():
            key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            self.key = key
            self.certificate = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
            return
        self.key = ec.generate_private_key(ec.SECP256R1())
        called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        public = self.key.public_key()
        self.certificate = (
            _begin(called, called, public, timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        _write(directory, "ca", self.key, self.certificate)

    def issue(self, id: str, hosts: list[str], life: timedelta = timedelta(days=90)) -> tuple[Path, Path]:
        """Write a key and a certificate for a node, in the place of former ones; return the paths of certificate and key.

        Args:
            id: The node's id. If it has other characters than host names have, use a URI, as `spiffe://example.org/node/7`.
            hosts: The names and addresses by which others reach the node.
            life: How long the certificate is valid. Shorter is safer, and renewing takes no restart.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(id) if ":" in id else x509.DNSName(id)]
        names += [_host(host) for host in hosts if host != id]
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]  # each node dials, and is dialled
        certificate = (
            _begin(x509.Name([]), self.certificate.subject, public, life)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(both), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return _write(self.directory, id.replace("/", "_"), key, certificate)


def _begin(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    """Return a certificate that is valid since an hour ago: clocks differ."""
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
    return builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + life)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs, crl_sign=signs, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _write(directory: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> tuple[Path, Path]:
    pem = serialization.Encoding.PEM
    paths = directory / f"{name}.pem", directory / f"{name}.key"
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for path, data, mode in ((paths[1], secret, 0o600), (paths[0], certificate.public_bytes(pem), 0o644)):
        new = path.with_suffix(path.suffix + ".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
        new.replace(path)  # whoever reads it meanwhile has the former one, whole; the certificate comes last
    return paths


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    authority = Authority(Path(sys.argv[1]))
    for node in sys.argv[2:]:
        id, _, host = node.partition("=")
        print(*authority.issue(id, [host or "localhost", *([] if host else ["127.0.0.1", "::1"])]))

"""Makes what the sample deployment needs before it may listen to others, once.

Usage: python make_credentials.py DIRECTORY NAME...

A certificate for the names, with its key, and a token for reading metrics: `token`, and its digest
in `auth.toml`. A real deployment brings its own.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from compactor.service.auth import new_token

DAYS = 365


def certificate(names: list[str]) -> tuple[bytes, bytes]:
    """Return a self-signed certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(pem), private


def write(path: Path, content: bytes) -> None:
    """Write a file that nobody else may read."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def main(directory: Path, names: list[str]) -> None:
    """Make all of it, unless it is there."""
    if (directory / "auth.toml").exists():
        return
    public, private = certificate(names)
    token, digest = new_token()
    write(directory / "certificate.pem", public)
    write(directory / "key.pem", private)
    write(directory / "token", token.encode())
    section = f'[[auth.tokens]]\nname = "metrics"\nscope = "admin"\nsha256 = "{digest}"\n'
    write(directory / "auth.toml", section.encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

"""Ed25519 keys: made, read and written.  Uses the package ``cryptography`` (the extra ``sign``)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mace_core.errors import MaceError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PublicKey: TypeAlias = "str | os.PathLike[str] | bytes"
"""A public key: a file (PEM, OpenSSH or 32 raw bytes), or the content of one."""

KEY_BYTES = 32
SIGNATURE_BYTES = 64
_LARGEST_FILE = 1 << 16
_PEM, _OPENSSH = b"-----BEGIN ", b"ssh-ed25519 "


class SigningKey:
    """A private key.

    Attributes:
        public: the 32 bytes of its public key.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = bytes(key.public_key().public_bytes_raw())

    def sign(self, content: bytes) -> bytes:
        """The 64 bytes of a signature."""
        return bytes(self._key.sign(content))


def key_id(public: bytes) -> str:
    """A short name of a public key: the first 16 bytes of its SHA-256, as hexadecimal digits."""
    return hashlib.sha256(public).hexdigest()[:32]


def is_signed_by(public: bytes, signature: bytes, content: bytes) -> bool:
    """Whether ``signature`` is the one of the owner of ``public`` under ``content``.

    Raises:
        MaceError: if cryptography is not installed.
    """
    _check_installed()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def read_public_key(given: PublicKey) -> bytes:
    """The 32 bytes of a public key.

    Args:
        given: the path of a file, or the content of one: PEM, a line of OpenSSH, or 32 raw bytes.

    Raises:
        UsageError: if it is not there, or no public Ed25519 key.
        MaceError: if cryptography is not installed.
    """
    _check_installed()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

    content, label = _content(given, "public key")
    if len(content) == KEY_BYTES:
        return content
    if content.startswith(_PEM) and b"PRIVATE KEY" in content[:64]:
        raise UsageError(f"{label} is a private key, which stays with who signs: give the public one")
    key: object = None
    try:
        if content.startswith(_PEM):
            key = load_pem_public_key(content)
        elif content.startswith(_OPENSSH):
            key = load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{label} cannot be read as a public key: {_said(error)}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{label} is no public Ed25519 key: expected PEM, a line of OpenSSH, or 32 raw bytes")
    return bytes(key.public_bytes_raw())


def read_signing_key(path: str | os.PathLike[str]) -> SigningKey:
    """A private key, from a PEM file or one of 32 raw bytes.

    Raises:
        UsageError: if it is not there, or no private Ed25519 key that can be read without a password.
        MaceError: if cryptography is not installed.
    """
    _check_installed()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content, label = _content(Path(path), "private key")
    if len(content) == KEY_BYTES:
        return SigningKey(Ed25519PrivateKey.from_private_bytes(content))
    if content.startswith(_PEM) and b"PUBLIC KEY" in content[:64]:
        raise UsageError(f"{label} is a public key: to sign takes the private one")
    key: object = None
    try:
        if content.startswith(_PEM):
            key = load_pem_private_key(content, password=None)
    except TypeError:
        raise UsageError(f"{label} is encrypted: decrypt it first ('openssl pkey -in KEY -out PLAIN')") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{label} cannot be read as a private key: {_said(error)}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{label} is no private Ed25519 key: expected PEM or 32 raw bytes ('mace keygen' makes one)")
    return SigningKey(key)


def make_key_pair(path: str | os.PathLike[str]) -> tuple[Path, Path, bytes]:
    """Write a new private key, readable by its owner alone, and its public key beside it; nothing is replaced.

    Args:
        path: of the private key; the public one has ``.pub`` at its end.

    Returns:
        The two files, and the 32 bytes of the public key.

    Raises:
        UsageError: if one of the files is there already.
        MaceError: if they cannot be written, or cryptography is not installed.
    """
    _check_installed()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    private, public = Path(path), Path(f"{os.fspath(path)}.pub")
    for file in (private, public):
        if file.exists() or file.is_symlink():
            raise UsageError(f"'{file}' is there already, and a key is never replaced: choose another name")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shown = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    written: list[Path] = []
    try:
        for file, content, mode in ((private, secret, 0o600), (public, shown, 0o644)):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            written.append(file)
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
    except BaseException as error:
        for file in written:
            file.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise MaceError(f"the key '{path}' cannot be written: {error.strerror or error}") from error
        raise
    return private, public, bytes(key.public_key().public_bytes_raw())


def _content(given: PublicKey, what: str) -> tuple[bytes, str]:
    """The bytes of a key, and how messages call it."""
    if isinstance(given, bytes):
        return given, f"the {what} given as bytes"
    path = Path(given)
    label = f"the {what} '{path}'"
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(_LARGEST_FILE), label
        is_there = path.exists()
    except OSError as error:
        raise UsageError(f"{label} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL character in the path
        raise UsageError(f"{label} cannot be read: {error}") from error
    raise UsageError(f"{label} is {'no regular file' if is_there else 'not there'}")


def _said(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _check_installed() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise MaceError(
            "signatures need the package cryptography, which is not installed: pip install 'mace-core[sign]'"
        ) from None

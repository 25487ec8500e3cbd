"""Signatures of packages: who made one, and that nothing of it was changed since.

What is signed is the head, which has the digest of the table, which has the digests of all sections: every byte of the
file but the signatures themselves, and the two sizes in the head that grow with them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mace_core.errors import MaceError, PackageError, SignatureError, UsageError
from mace_core.host.files import replacing
from mace_core.package.keys import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    PublicKey,
    SigningKey,
    is_signed_by,
    key_id,
    read_public_key,
)
from mace_core.package.layout import HEAD_BYTES, pack_head
from mace_core.package.reader import Package, open_package

TRUSTED_KEYS = "MACE_TRUSTED_KEYS"
"""Environment variable: files of public keys, and folders of them, separated as in PATH."""

KEY_SUFFIXES = (".pub", ".pem")
"""Of the files in such a folder that are keys."""

_CONTEXT = b"MACE package signature 1\0"
"""Before what is signed, so that no signature of something else is one of a package."""

_ENTRY = struct.Struct("<8sII")
_ALGORITHM = b"ed25519\0"
_MOST_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of a package.

    Attributes:
        key: the public key of who says to have signed.
        signature: the 64 bytes.
    """

    key: bytes
    signature: bytes


def signatures_of(package: Package) -> list[Signature]:
    """The signatures in a package, not compared; those of kinds that this version does not know are skipped.

    Raises:
        PackageError: if what stands there are none.
    """
    found, block = [], package.signature_block
    while block:
        if len(block) < _ENTRY.size or len(block) > _MOST_BYTES:
            raise _no_signature(package)
        algorithm, key_bytes, nbytes = _ENTRY.unpack_from(block)
        end = _ENTRY.size + key_bytes + nbytes
        if end > len(block):
            raise _no_signature(package)
        if algorithm == _ALGORITHM:
            if (key_bytes, nbytes) != (KEY_BYTES, SIGNATURE_BYTES):
                raise _no_signature(package)
            found.append(Signature(block[_ENTRY.size : end - nbytes], block[end - nbytes : end]))
        block = block[end:]
    return found


def _no_signature(package: Package) -> PackageError:
    return PackageError(f"{package.label} is damaged: its signature is not one; sign it or fetch it again")


def is_good(package: Package, signature: Signature) -> bool:
    """Whether a signature is that of the owner of its key, under this very package.

    Raises:
        MaceError: if cryptography is not installed.
    """
    return is_signed_by(signature.key, signature.signature, _CONTEXT + package.signed_part)


class Trust:
    """Whose packages are used: a package counts if one of these keys has signed it.

    Attributes:
        keys: the public keys, 32 bytes each.
    """

    def __init__(self, keys: Iterable[bytes]) -> None:
        self.keys = frozenset(keys)

    def check(self, package: Package) -> bytes:
        """Refuse a package that no trusted key has signed.

        Returns:
            The key that has.

        Raises:
            SignatureError: saying what is wrong with its signatures.
            MaceError: if cryptography is not installed.
        """
        found = signatures_of(package)
        if not found:
            raise SignatureError(
                f"{package.label} is not signed, and only packages signed by a trusted key may be used: fetch the "
                "signed one, or sign it ('mace sign')"
            )
        own = [signature for signature in found if signature.key in self.keys]
        for signature in own:
            if is_good(package, signature):
                return signature.key
        if own:
            raise SignatureError(
                f"{package.label} was changed after the key {key_id(own[0].key)} had signed it: do not use it; fetch "
                "it again"
            )
        raise SignatureError(
            f"{package.label} is signed by the key {key_id(found[0].key)}, which is not a trusted one: fetch one from "
            "who you trust, or trust this key"
        )

    def refuse(self, label: str) -> SignatureError:
        """The error for a model that is no package."""
        return SignatureError(
            f"{label} is not a package, which alone can be signed, and only what a trusted key has signed may be used: "
            "compile and sign it ('mace compile … --sign KEY')"
        )


def trust_of(keys: Sequence[PublicKey] | None) -> Trust | None:
    """Whose packages are used; None: anybody's.

    Args:
        keys: public keys; None: what the environment variable ``MACE_TRUSTED_KEYS`` says.

    Raises:
        UsageError: if a key cannot be read, or there is none.
        MaceError: if cryptography is not installed.
    """
    if keys is None:
        text = os.environ.get(TRUSTED_KEYS, "")
        return Trust(_from_environment(text)) if text else None
    if isinstance(keys, str | bytes | os.PathLike):
        raise UsageError("trusted keys are a list of files or of keys: put brackets around the one")
    if not keys:
        raise UsageError("trusted_keys is empty: name a key, or leave it out to trust everybody")
    return Trust(read_public_key(key) for key in keys)


def _from_environment(text: str) -> list[bytes]:
    found: list[bytes] = []
    for name in filter(None, text.split(os.pathsep)):
        path = Path(name)
        try:
            files = [path]
            if path.is_dir():
                files = sorted(file for file in path.iterdir() if file.suffix in KEY_SUFFIXES)
            found += [read_public_key(file) for file in files]
        except UsageError as error:
            raise UsageError(f"{TRUSTED_KEYS}: {error}") from error
        except OSError as error:
            raise UsageError(f"{TRUSTED_KEYS}: '{path}' cannot be read: {error.strerror or error}") from error
    if not found:
        raise UsageError(f"{TRUSTED_KEYS} names no key: '{text}' has no file that ends in {' or '.join(KEY_SUFFIXES)}")
    return found


def signature_block(signed: bytes, keys: Iterable[SigningKey]) -> bytes:
    """What follows the table: one signature for each key.

    Args:
        signed: what `mace_core.package.layout.signed_part` gives of the head.
        keys: of those who sign.
    """
    return b"".join(_entry(Signature(key.public, key.sign(_CONTEXT + signed))) for key in keys)


def _entry(signature: Signature) -> bytes:
    return _ENTRY.pack(_ALGORITHM, KEY_BYTES, SIGNATURE_BYTES) + signature.key + signature.signature


def sign_package(path: Path, key: SigningKey, out: Path | None = None) -> None:
    """Sign a package; good signatures of others stay, and an earlier one of this key is replaced.

    Args:
        path: the package, which is compared with its checksums first.
        key: of who signs.
        out: where to write; None: in the place of the package, once the new one is whole.

    Raises:
        PackageError: if it is damaged.
        MaceError: if it cannot be written.
    """
    package = open_package(path)
    others = [one for one in signatures_of(package) if one.key != key.public and is_good(package, one)]
    head = package.head
    block = b"".join(map(_entry, others)) + signature_block(package.signed_part, [key])
    if len(block) > _MOST_BYTES:
        raise UsageError(f"{package.label} has as many signatures as a package can have")
    end = head.table_at + head.table_bytes
    signed = pack_head(head._replace(file_bytes=end + len(block), signature_bytes=len(block)))
    content = package.content
    try:
        with replacing(out or path.resolve()) as file:  # a link to it goes on leading to it
            file.write(signed)
            for start in range(HEAD_BYTES, end, _CHUNK_BYTES):
                file.write(content[start : min(start + _CHUNK_BYTES, end)])
            file.write(block)
    except OSError as error:
        raise MaceError(f"the package '{out or path}' cannot be written: {error.strerror or error}") from error

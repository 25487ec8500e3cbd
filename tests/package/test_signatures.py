"""Signed packages: who made one is proved, and under a policy nothing else is opened."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scheduler_models import chain
from scheduler_stand_ins import registry_of

import mace_core as mace
from mace_core.cli.main import main
from mace_core.errors import MaceError, PackageError, SignatureError, UsageError
from mace_core.frontend.load import load_model
from mace_core.package import NewSection, open_package, write_package
from mace_core.package.graphs import graph_sections

pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")

from mace_core.package.keys import key_id, make_key_pair, read_public_key, read_signing_key
from mace_core.package.signatures import Signature, is_good, sign_package, signatures_of, trust_of

X = np.float32([[-2, -1, 1, 3]])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Private keys of the maker and of somebody else; public ones beside them."""
    folder = tmp_path_factory.mktemp("keys")
    return make_key_pair(folder / "maker")[0], make_key_pair(folder / "other")[0]


def public(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


@pytest.fixture
def signed(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    """A package of -x that the maker signed."""
    path = tmp_path / "m.mace"
    graph = load_model(chain("Neg", shape=(1, 4)))
    write_package(path, graph_sections({"optimized": graph}), {"made_by": "a test"}, keys=[read_signing_key(keys[0])])
    return path


def opened(path: Path, key: Path) -> None:
    arguments = {"devices": ["reference"], "registry": registry_of(), "cache": False}
    with mace.Session(path, trusted_keys=[public(key)], **arguments) as session:  # type: ignore[arg-type]
        np.testing.assert_array_equal(session.run({"x": X})["y"], -X)


def sealed(content: bytearray) -> bytes:
    """With the sizes and the checksum of the head as they ought to be."""
    at, size = struct.unpack_from("<QQ", content, 24)
    content[16:24] = struct.pack("<Q", len(content))
    content[40:48] = struct.pack("<Q", len(content) - at - size)
    content[124:128] = struct.pack("<I", zlib.crc32(content[:124]))
    return bytes(content)


def test_what_the_maker_signed_is_opened_and_nothing_else(
    signed: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    maker, other = keys
    opened(signed, maker)
    with pytest.raises(SignatureError, match=r"is signed by the key [0-9a-f]{32}, which is not a trusted one"):
        opened(signed, other)
    source = tmp_path / "m.onnx"
    onnx.save(chain("Neg", shape=(1, 4)), source)
    disguised = tmp_path / "disguised.mace"
    disguised.write_bytes(source.read_bytes())
    refusal = "is not a package, which alone can be signed"
    for model in (source, source.read_bytes(), onnx.load(source)):
        with pytest.raises(SignatureError, match=refusal):
            mace.Session(model, trusted_keys=[public(maker)])
    with pytest.raises(PackageError, match="is not a MACE package"):
        mace.Session(disguised, trusted_keys=[public(maker)])
    monkeypatch.setenv("MACE_TRUSTED_KEYS", str(public(other)))
    with pytest.raises(SignatureError, match="not a trusted one"):
        mace.Session(signed)
    with pytest.raises(SignatureError, match=refusal):
        mace.Session(source)
    monkeypatch.setenv("MACE_TRUSTED_KEYS", os.pathsep.join(map(str, (public(other), maker.parent))))
    with mace.Session(signed, devices=["reference"], registry=registry_of()) as session:
        assert session.run({"x": X})["y"].tolist() == (-X).tolist()


def _stripped(content: bytearray) -> bytes:
    at, size = struct.unpack_from("<QQ", content, 24)
    return sealed(content[: at + size])


def _of_zeros(content: bytearray) -> bytes:
    content[-64:] = bytes(64)
    return bytes(content)


def _by_another(content: bytearray) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    message = b"MACE package signature 1\0" + content[:16] + bytes(8) + content[24:40] + bytes(8) + content[48:124]
    content[-64:] = key.sign(bytes(message))  # and the key that it names stays the maker's
    return bytes(content)


def _other_section(content: bytearray) -> bytes:
    """Another weight, with all checksums made anew, and the old signature."""
    at, size = struct.unpack_from("<QQ", content, 24)
    table = bytes(content[at : at + size])
    section = next(one for one in open_package(bytes(content)).sections if one.kind == "graph")
    begin, end = section.offset, section.offset + section.nbytes
    content[begin:end] = bytes(content[begin:end]).replace(b'"Neg"', b'"Abs"')
    digest = hashlib.sha256(content[begin:end]).hexdigest().encode()
    table = table.replace(section.digest.encode(), digest)
    content[at : at + size] = table
    content[48:80] = hashlib.sha256(table).digest()
    return sealed(content)


def _older_version(content: bytearray) -> bytes:
    content[10:12] = struct.pack("<H", 0)
    return sealed(content)


def _reserved(content: bytearray) -> bytes:
    content[100] = 1
    return sealed(content)


def _table_further(content: bytearray) -> bytes:
    """Zeros before the table, which no checksum covers."""
    at = struct.unpack_from("<Q", content, 24)[0]
    content[at:at] = bytes(64)
    content[24:32] = struct.pack("<Q", at + 64)
    content[40:48] = struct.pack("<Q", 112)
    content[16:24] = struct.pack("<Q", len(content))
    content[124:128] = struct.pack("<I", zlib.crc32(content[:124]))
    return bytes(content)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_stripped, "is not signed"),
        (_of_zeros, "was changed after the key"),
        (_by_another, "was changed after the key"),
        (_other_section, "was changed after the key"),
        (_older_version, "was changed after the key"),
        (_reserved, "was changed after the key"),
        (_table_further, "was changed after the key"),
    ],
)
def test_whoever_changes_it_is_found_though_every_checksum_fits(
    signed: Path, keys: tuple[Path, Path], change: Callable[[bytearray], bytes], told: str
) -> None:
    before = signed.read_bytes()
    signed.write_bytes(change(bytearray(before)))
    assert signed.read_bytes() != before
    open_package(signed)  # every checksum fits: without a policy, it is a package
    with pytest.raises(SignatureError, match=told):
        opened(signed, keys[0])
    assert main(["verify", str(signed), "--key", str(public(keys[0]))]) == 3


@given(st.data())
def test_no_bit_can_be_changed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """The law: a package with one other bit anywhere is refused."""
    folder = tmp_path_factory.mktemp("law")
    key, _, raw = make_key_pair(folder / "k")
    path = folder / "m.mace"
    graph = load_model(chain("Neg", shape=(1, 4)))
    write_package(path, graph_sections({"optimized": graph}), {}, keys=[read_signing_key(key)])
    content = bytearray(path.read_bytes())
    trust = trust_of([raw])
    assert trust is not None
    assert trust.check(open_package(bytes(content))) == raw
    for _ in range(16):
        at = data.draw(st.integers(0, len(content) - 1))
        bit = 1 << data.draw(st.integers(0, 7))
        changed = bytearray(content)
        changed[at] ^= bit
        if at < 124:
            changed[124:128] = struct.pack("<I", zlib.crc32(changed[:124]))
        with pytest.raises(PackageError):  # of which a SignatureError is one
            trust.check(open_package(bytes(changed)))


def test_several_can_sign_and_each_is_enough(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    maker, other = keys
    both = tmp_path / "both.mace"
    sign_package(signed, read_signing_key(other), both)
    opened(both, maker)
    opened(both, other)
    sign_package(both, read_signing_key(maker))
    assert [one.key for one in signatures_of(open_package(both))] == [
        read_public_key(public(key)) for key in (other, maker)
    ]
    content = bytearray(both.read_bytes())
    content[-1] ^= 1
    both.write_bytes(content)
    with pytest.raises(SignatureError, match="was changed"):
        opened(both, maker)
    opened(both, other)
    sign_package(both, read_signing_key(other))  # the maker's does not fit any more, and is left out
    assert len(signatures_of(open_package(both))) == 1


def test_a_signature_of_another_kind_is_skipped_and_none_at_all_refused(signed: Path, keys: tuple[Path, Path]) -> None:
    content = signed.read_bytes()
    later = struct.pack("<8sII", b"mldsa44\0", 5, 7) + bytes(12)
    signed.write_bytes(sealed(bytearray(content + later)))
    opened(signed, keys[0])
    for wrong in (b"x", bytes(16), struct.pack("<8sII", b"ed25519\0", 32, 1 << 31), content[-112:-1]):
        signed.write_bytes(sealed(bytearray(content + wrong)))
        open_package(signed)
        if wrong != bytes(16):
            with pytest.raises(PackageError, match="its signature is not one"):
                opened(signed, keys[0])


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(chain("Neg", shape=(1, 4)), "m.onnx")
    assert main(["keygen", "release.key"]) == 0
    assert Path("release.key").stat().st_mode & 0o777 == 0o600
    assert main(["keygen", "release.key"]) == 2
    assert "a key is never replaced" in capsys.readouterr().err
    assert main(["compile", "m.onnx", "-d", "cpu", "-o", "m.mace", "--sign", "release.key"]) == 0
    assert main(["verify", "m.mace"]) == 0
    assert main(["verify", "m.mace", "--key", "release.key.pub"]) == 0
    assert "trusted" in capsys.readouterr().out
    assert main(["run", "m.mace", "--random", "-d", "cpu", "--trusted-key", "release.key.pub"]) == 0
    assert "MACE_TRUSTED_KEYS" not in os.environ
    assert main(["run", "m.onnx", "--random", "-d", "cpu", "--trusted-key", "release.key.pub"]) == 1
    assert "is not a package, which alone can be signed" in capsys.readouterr().err
    assert main(["compile", "m.onnx", "-d", "cpu", "-o", "n.mace"]) == 0
    assert main(["verify", "n.mace"]) == 3
    assert main(["sign", "n.mace", "--key", "release.key", "-o", "o.mace"]) == 0
    assert main(["verify", "o.mace"]) == 0
    assert main(["verify", "m.onnx"]) == 1
    assert "is not a MACE package" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] == ".") == []


def test_an_interrupted_signing_leaves_what_was_there(
    signed: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signed.read_bytes()

    def interrupted(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sign_package(signed, read_signing_key(keys[1]))
    monkeypatch.undo()
    assert signed.read_bytes() == before
    assert [file.name for file in signed.parent.iterdir() if "m.mace" in file.name] == ["m.mace"]


def test_a_link_to_a_package_goes_on_leading_to_it(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    link = tmp_path / "latest.mace"
    link.symlink_to(signed)
    sign_package(link, read_signing_key(keys[1]))
    assert link.is_symlink()
    assert len(signatures_of(open_package(signed))) == 2


def test_a_key_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        read_public_key(tmp_path / "none.pub")
    assert str(error.value) == f"the public key '{tmp_path / 'none.pub'}' is not there"


def test_keys_of_every_form(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    maker = keys[0]
    raw = read_public_key(public(maker))
    (tmp_path / "raw").write_bytes(raw)
    blob = struct.pack(">I11sI32s", 11, b"ssh-ed25519", 32, raw)
    (tmp_path / "openssh").write_bytes(b"ssh-ed25519 " + base64.b64encode(blob) + b" somebody@somewhere\n")
    forms = [raw, public(maker), str(public(maker)), public(maker).read_bytes(), tmp_path / "raw", tmp_path / "openssh"]
    assert {read_public_key(form) for form in forms} == {raw}
    assert len(key_id(raw)) == 32
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    secret = load_pem_private_key(maker.read_bytes(), None).private_bytes_raw()  # type: ignore[union-attr]
    (tmp_path / "secret").write_bytes(secret)
    assert read_signing_key(tmp_path / "secret").public == raw


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "is not there"),
        (b"", "is no public Ed25519 key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot be read as a public key"),
        (b"-----BEGIN PRIVATE KEY-----\n", "is a private key, which stays with who signs"),
        (b"ssh-ed25519 AAAA", "cannot be read as a public key"),
        (b"x" * 31, "is no public Ed25519 key"),
    ],
)
def test_what_is_no_key_is_told(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=told):
        read_public_key(path)
    with pytest.raises(UsageError, match="private key"):
        read_signing_key(path)


def test_mistakes_of_the_policy_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for given_, told in (([], "trusted_keys is empty"), ("key", "are a list"), ([tmp_path / "k"], "is not there")):
        with pytest.raises(UsageError, match=told):
            mace.Session("m.mace", trusted_keys=given_)
    for text, told in ((str(tmp_path / "k"), "MACE_TRUSTED_KEYS: the public key"), (str(tmp_path), "names no key")):
        monkeypatch.setenv("MACE_TRUSTED_KEYS", text)
        with pytest.raises(UsageError, match=told):
            mace.Session("m.mace")


WITHOUT = """
import sys
sys.modules["cryptography"] = None
import mace_core as mace
mace.Session(sys.argv[1], trusted_keys=[b"k" * 32])
"""


def test_without_the_library_nothing_is_trusted(signed: Path) -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT, str(signed)], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert (
        "signatures need the package cryptography, which is not installed: pip install 'mace-core[sign]'" in run.stderr
    )


def test_facts_about_signatures(signed: Path, keys: tuple[Path, Path]) -> None:
    package = open_package(signed)
    (one,) = signatures_of(package)
    assert is_good(package, one)
    assert not is_good(package, Signature(one.key, bytes(64)))
    assert not is_good(package, Signature(bytes(32), one.signature))
    with pytest.raises(MaceError):
        sign_package(signed, read_signing_key(keys[0]), signed.parent / "nowhere" / "m.mace")


def test_later_sections_are_signed_too(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """A reader that does not know a section still knows who wrote it."""
    path = tmp_path / "later.mace"
    graph = load_model(chain("Neg", shape=(1, 4)))
    sections = [*graph_sections({"optimized": graph}), NewSection("later", "", [b"x" * 100])]
    write_package(path, sections, {}, version=(1, 7), keys=[read_signing_key(keys[0])])
    opened(path, keys[0])

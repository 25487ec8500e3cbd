"""The file itself: what is written is read, where it lies; what was changed is found; what is newer is told."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scheduler_models import chain, constant, model, op, tensor

from mace_core.errors import ModelNotFoundError, PackageError
from mace_core.frontend.load import load_model
from mace_core.package import NewSection, Package, open_package, write_package
from mace_core.package.graphs import graph_sections, read_graph


@pytest.fixture
def weighted(tmp_path: Path) -> Path:
    """A package of a graph with one large weight, twice."""
    weights = np.arange(4096, dtype=np.float32).reshape(4, 1024)
    graph = load_model(
        model(
            [op("MatMul", ["x", "w"], ["t"]), op("MatMul", ["x", "v"], ["u"]), op("Add", ["t", "u"], ["y"])],
            [tensor("x", ["n", 4])],
            [tensor("y", ["n", 1024])],
            [constant("w", weights), constant("v", weights)],
        )
    )
    path = tmp_path / "weighted.mace"
    write_package(path, graph_sections({"optimized": graph}), {"made_by": "a test"})
    return path


def sealed(content: bytearray) -> bytes:
    """With the checksum of the head as it ought to be."""
    content[124:128] = struct.pack("<I", zlib.crc32(content[:124]))
    return bytes(content)


def test_weights_lie_once_aligned_and_are_used_where_they_lie(weighted: Path) -> None:
    package = open_package(weighted)
    section = package.find("weights", "")
    assert section is not None
    assert (section.offset % 4096, section.nbytes) == (0, 4096 * 4)
    graph = read_graph(package)
    whole = package.array(section)
    for name in ("w", "v"):
        constant = graph.initializers[name].constant
        assert constant is not None
        assert np.shares_memory(constant.payload, whole)
        assert constant.payload.ctypes.data % 64 == 0
        assert constant.source is not None
        assert constant.source[:3] == (str(weighted), section.offset, section.nbytes)
        np.testing.assert_array_equal(constant.numpy().reshape(-1), np.arange(4096))


@pytest.mark.parametrize("mmap", [True, False])
def test_a_package_is_the_same_mapped_read_or_in_memory(weighted: Path, mmap: bool) -> None:
    found = [open_package(weighted, mmap=mmap), open_package(weighted.read_bytes(), path=weighted)]
    for package in found:
        assert package.metadata == {"made_by": "a test"}
        assert [section.kind for section in package.sections] == ["graph", "weights"]
        assert np.frombuffer(package.view(package.sections[0]), np.uint8).ctypes.data % 64 == 0
    assert found[0].digest == found[1].digest


def test_the_same_content_gives_the_same_bytes(weighted: Path, tmp_path: Path) -> None:
    package = open_package(weighted)
    again = tmp_path / "again.mace"
    sections = [
        NewSection(one.kind, one.name, [package.view(one)], one.is_required, one.facts) for one in package.sections
    ]
    write_package(again, sections, package.metadata)
    assert again.read_bytes() == weighted.read_bytes()


def test_what_is_not_known_and_not_required_is_skipped(tmp_path: Path) -> None:
    graph = load_model(chain("Neg"))
    path = tmp_path / "later.mace"
    later = NewSection("pre-processing", "pictures", [b"steps"], facts={"how": ["resize"]})
    write_package(path, [*graph_sections({"optimized": graph}), later], {}, version=(1, 7))
    package = open_package(path)
    assert package.format == (1, 7)
    assert [node.op_type for node in read_graph(package).nodes] == ["Neg"]
    assert package.find("pre-processing", "pictures") is not None


@pytest.mark.parametrize(
    ("version", "later", "requires", "told"),
    [
        ((2, 0), [], [], r"has format 2\.0, and this version of mace reads format 1: update mace"),
        ((1, 1), [NewSection("program", "", [b"x"], is_required=True)], [], "needs 'program'"),
        ((1, 1), [], ["sparse weights"], "needs 'sparse weights'"),
        ((0, 9), [], [], r"has format 0\.9, and this version of mace reads format 1: compile the model again"),
    ],
)
def test_what_is_required_and_not_known_is_refused(
    tmp_path: Path, version: tuple[int, int], later: list[NewSection], requires: list[str], told: str
) -> None:
    graph = load_model(chain("Neg"))
    path = tmp_path / "newer.mace"
    write_package(path, [*graph_sections({"optimized": graph}), *later], {}, version=version, requires=requires)
    with pytest.raises(PackageError, match=told):
        open_package(path)


def test_room_for_a_signature_is_left_behind_the_table(weighted: Path) -> None:
    content = bytearray(weighted.read_bytes())
    (size,) = struct.unpack_from("<Q", content, 16)
    content[16:24] = struct.pack("<Q", size + 64)
    content[40:48] = struct.pack("<Q", 64)
    signed = sealed(content) + bytes(64)
    assert [section.kind for section in open_package(signed).sections] == ["graph", "weights"]


def _zero_section(content: bytearray) -> bytes:
    content[4096:4200] = bytes(104)
    return bytes(content)


def _longer(content: bytearray) -> bytes:
    return bytes(content) + b"more"


def _table(content: bytearray) -> bytes:
    content[-10] ^= 1
    return bytes(content)


def _head(content: bytearray) -> bytes:
    content[70] ^= 1
    return bytes(content)


def _between(content: bytearray) -> bytes:
    content[4090] = 1
    return bytes(content)


def _table_elsewhere(content: bytearray) -> bytes:
    content[24:32] = struct.pack("<Q", 1 << 62)
    return sealed(content)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_zero_section, "its section 'weights' has another checksum"),
        (_longer, "4 bytes follow its end"),
        (_table, "its table has another checksum"),
        (_head, "its head has another checksum"),
        (_between, "something is between its sections"),
        (_table_elsewhere, "its table is not where a table can be"),
        (lambda content: bytes(content[:-1]), "is truncated"),
        (lambda content: bytes(content[:100]), "is truncated: it has 100 bytes"),
        (lambda content: b"", "is empty"),
        (lambda content: b"\0" * 500, "is not a MACE package"),
    ],
)
def test_every_kind_of_damage_is_told(weighted: Path, change: Callable[[bytearray], bytes], told: str) -> None:
    weighted.write_bytes(change(bytearray(weighted.read_bytes())))
    with pytest.raises(PackageError, match=told):
        open_package(weighted)


def test_a_table_that_lies_is_found_out(weighted: Path) -> None:
    content = weighted.read_bytes()
    at, size = struct.unpack_from("<QQ", content, 24)
    table = content[at : at + size]
    for old, new in (
        (b'"offset":4096', b'"offset":4097'),
        (b'"offset":4096', b'"offset":0064'),
        (b'"offset":4096', b'"offset":-096'),
        (b'"offset":4096', b'"offset":9e99'),
        (b'"bytes":16384', b'"bytes":99999'),
        (b'"bytes":16384', b'"bytes":"163"'),
        (b'"sha256":"', b'"sha256":["'),
        (b'"sections":[', b'"sections":{'),
        (b'"sections":[', b'"section_":['),
        (b'"kind":"weights"', b'"kind":77777777 '),
    ):
        lie = table.replace(old, new, 1)
        assert lie != table
        changed = bytearray(content[:at] + lie)
        changed[16:24] = struct.pack("<Q", len(changed))
        changed[32:40] = struct.pack("<Q", len(lie))
        changed[48:80] = hashlib.sha256(lie).digest()
        with pytest.raises(PackageError, match=r"is damaged: its (table|section)"):
            open_package(sealed(changed))


def test_a_file_that_was_compared_is_not_read_again_until_it_changes(
    weighted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []
    check = Package.check
    monkeypatch.setattr(Package, "check", lambda self: (compared.append(self.label), check(self))[1])
    for _ in range(3):
        open_package(weighted, cache=True)
    assert len(compared) == 1
    content = bytearray(weighted.read_bytes())
    content[4100] ^= 1
    weighted.write_bytes(content)
    with pytest.raises(PackageError, match="another checksum"):
        open_package(weighted, cache=True)


def test_a_package_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no package"):
        open_package(tmp_path / "nothing.mace")

"""Packages whose structure somebody changed and whose checksums fit again, so that what lies behind them is reached.

Each is used or refused in one sentence by all that reads packages; nothing outside the folder is touched, and nothing
takes long.  What devices compiled is left as it is: it is code, and trusted (SECURITY.md).
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scheduler_models import constant, model, op, tensor

import mace_core as mace
from mace_core.errors import MaceError
from mace_core.inspection import inspect_model
from mace_core.numerics import make_samples, validate_samples
from mace_core.package import open_package
from mace_core.package.documents import Document
from mace_core.processing import Classes, Picture

CODE = ("compiled", "device weights")
QUICK, ALL = 60, 400
MOST_SECONDS = 20
"""Of processor time for one file; a few milliseconds are usual."""
INTERNALS = ("Traceback", "object has no", "NoneType", "out of range", "unpack", ".py:", "<class", "0x", "Error:")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A package with sections of every kind: steps, a sample, documents, what the CPU compiled, a signature."""
    folder = tmp_path_factory.mktemp("structure")
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3), np.float32)
    given = model(
        [op("Conv", ["x", "w"], ["a"]), op("GlobalAveragePool", ["a"], ["b"]), op("Flatten", ["b"], ["y"])],
        [tensor("x", [1, 3, 8, 8])],
        [tensor("y", [1, 4])],
        [constant("w", weights)],
    )
    pixels = np.random.default_rng(1).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    steps: dict[str, Any] = {"before": [Picture()], "after": [Classes(labels=["a", "b", "c", "d"])]}
    from mace_core.processing import with_steps

    samples = make_samples(with_steps(given, **steps).graph, {"one": {"x": pixels}}, by="cpu")
    documents = [Document("license", "LICENSE", "MIT\n"), Document("card", "card.md", "# card", "text/markdown")]
    keys = []
    try:
        from mace_core.package.keys import make_key_pair

        keys = [make_key_pair(folder / "key")[0]]
    except MaceError:
        pass  # the extra is not installed: a package without a signature has one kind of change less
    out = folder / "m.mace"
    mace.compile(given, out, devices="cpu", shapes={"x": pixels.shape}, samples=samples, documents=documents,
                 sign_with=keys, **steps)  # fmt: skip
    return out.read_bytes()


def table_of(content: bytes) -> dict[str, Any]:
    at, size = struct.unpack_from("<QQ", content, 24)
    found: dict[str, Any] = json.loads(content[at : at + size])
    return found


def sealed(body: bytes, table: bytes, tail: bytes = b"", **head: int) -> bytes:
    """A file of sections and a table, with the sizes and digests as they ought to be, but for those of ``head``."""
    content = bytearray(body) + table + tail
    fields = {"at": len(body), "size": len(table), "file": len(content), "signature": len(tail), **head}
    content[16:24] = struct.pack("<Q", fields["file"] % (1 << 64))
    content[24:48] = struct.pack("<QQQ", *(fields[name] % (1 << 64) for name in ("at", "size", "signature")))
    content[48:80] = hashlib.sha256(table).digest()
    content[124:128] = struct.pack("<I", zlib.crc32(content[:124]))
    return bytes(content)


HUGE = (-1, 1, 63, 64, 4096, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, 1 << 64, 1 << 70, 0.5, None, "64", [], True)


def digests_made_anew(body: bytes, table: dict[str, Any]) -> None:
    """Let every section that lies in the file have the digest of what is there."""
    for row in table["sections"]:
        start, size = row.get("offset"), row.get("bytes")
        if type(start) is int and type(size) is int and 0 <= start <= start + size <= len(body):
            row["sha256"] = hashlib.sha256(body[start : start + size]).hexdigest()


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, value in list(document.items() if isinstance(document, dict) else enumerate(document)):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def changed(content: bytes, number: random.Random) -> bytes:
    """One structural change, with every checksum right again."""
    at, size = struct.unpack_from("<QQ", content, 24)
    body, tail = content[:at], content[at + size :]
    table = table_of(content)
    rows = table["sections"]
    row = number.choice([one for one in rows if one["kind"] not in CODE])
    match number.randrange(14):
        case 0:  # places and sizes
            row[number.choice(("offset", "bytes"))] = number.choice(HUGE)
        case 1:  # sections over each other
            other = number.choice(rows)
            row["offset"], row["bytes"] = other["offset"], number.choice((other["bytes"], row["bytes"], 0))
            digests_made_anew(body, table)
        case 2:  # one section many times, or thousands of empty ones
            rows += [dict(row, name=f"{row['name']}{i}", bytes=0) for i in range(number.choice((1, 3000)))]
            digests_made_anew(body, table)
        case 3:  # the same twice
            rows.append(dict(row))
        case 4:  # without it
            rows.remove(row)
        case 5:  # as another kind
            row["kind"], row["name"] = number.choice([(r["kind"], r["name"]) for r in rows if r["kind"] not in CODE])
            row["required"] = number.choice((True, False))
        case 6:  # facts
            where = list(places(row["facts"])) if row["facts"] else []
            if where:
                *path, last = number.choice(where)
                holder = row["facts"]
                for key in path:
                    holder = holder[key]
                holder[last] = copy.deepcopy(number.choice((*HUGE, {}, {"form": 1}, "x" * 5000, [[[]]] * 50)))
            else:
                row["facts"] = {"form": number.choice(HUGE)}
        case 7:  # JSON bombs for a table
            rows_ = b'{"sections":[' + b"{}," * 100_000 + b"{}]}"
            bombs = (b"[" * 200_000, b'{"sections":' * 50_000, b"9" * 10_000, rows_, b"\xff\xfe", b"nul", b'"x"')
            return sealed(body, number.choice(bombs), tail)
        case 8:  # keys twice: the last one counts, for every reader alike
            text = json.dumps(table)
            doubled = text.replace('"offset":', '"offset": 0, "offset":', number.choice((1, 100)))
            doubled = doubled if number.randrange(2) else text.replace("}", ', "sections": []}', 1)
            return sealed(body, doubled.encode(), tail)
        case 9:  # the head
            fields = {
                number.choice(("at", "size", "file", "signature")): number.choice([h for h in HUGE if type(h) is int])
            }
            return sealed(body, json.dumps(table).encode(), tail, **fields)
        case 10:  # bytes of a section, and its digest anew
            start, nbytes = row["offset"], row["bytes"]
            if nbytes:
                spoiled = bytearray(body)
                for _ in range(number.choice((1, 8, 64))):
                    spoiled[start + number.randrange(nbytes)] = number.randrange(256)
                body = bytes(spoiled)
                digests_made_anew(body, table)
        case 11:  # numbers that JSON allows and nobody needs
            row["facts"] = {**row["facts"], number.choice(list(row["facts"]) or ["form"]): float("nan")}
        case 12:  # metadata and features
            table[number.choice(("metadata", "requires"))] = number.choice(
                ({"a": 1}, [1], "x", {"a": "b" * 10_000}, [["x"]])
            )
        case 13:  # a signature of any length
            return sealed(body, json.dumps(table).encode(), number.randbytes(number.choice((1, 16, 112, 5000, 70_000))))
    return sealed(body, json.dumps(table).encode(), tail)


def outcome(path: Path) -> list[str]:
    """What the file was refused with by each that reads it; whatever else is raised fails the test."""
    told = []
    for attempt in (_run, _validate, _inspect, _without, _verify):
        try:
            attempt(path)
        except MaceError as error:
            told.append(str(error))
    return told


def _run(path: Path) -> None:
    with mace.Session(path, devices=["cpu"], cache=False) as session:
        session.run({spec.name: np.ones((9, 7, 3), np.uint8) for spec in session.inputs})


def _validate(path: Path) -> None:
    validate_samples(path, devices=["cpu"])


def _inspect(path: Path) -> None:
    inspect_model(path).as_data()


def _without(path: Path) -> None:
    mace.Session(path, devices=["cpu"], cache=False, processing=False).close()


def _verify(path: Path) -> None:
    from mace_core.package.signatures import signatures_of

    signatures_of(open_package(path))


def _judge(base: bytes, folder: Path, seed: int, count: int) -> None:
    number, path = random.Random(seed), folder / "m.mace"
    before = _files(folder.parent)
    refused = 0
    for index in range(count):
        path.write_bytes(changed(base, number))
        start = time.process_time()
        told = outcome(path)
        assert time.process_time() - start < MOST_SECONDS, index
        for sentence in told:
            assert sentence.count("\n") == 0, (index, sentence)
            assert 20 < len(sentence) < 1500, (index, sentence)
            assert not any(word in sentence for word in INTERNALS), (index, sentence)
        refused += bool(told)
    path.unlink()
    assert _files(folder.parent) == before
    assert count * 0.4 < refused < count, refused  # some changes are of no consequence, and most are found


def _files(folder: Path) -> list[Path]:
    """All but those of the cache."""
    return sorted(path for path in folder.rglob("*") if "cache" not in path.relative_to(folder).parts)


def test_the_base_is_used(base: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.mace"
    path.write_bytes(base)
    assert outcome(path) == []


def test_changed_structures_are_used_or_refused_in_a_sentence(base: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    _judge(base, folder, 0, QUICK)


@pytest.mark.full
def test_many_changed_structures(base: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    _judge(base, folder, 1, ALL)


def test_every_way_to_cut_it_off_is_told(base: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.mace"
    for length in sorted({0, 1, 7, 8, 127, 128, 129, 4095, 4096, len(base) // 2, len(base) - 113, len(base) - 1}):
        path.write_bytes(base[:length])
        with pytest.raises(MaceError, match=r"is truncated|is not a MACE package|is empty"):
            open_package(path)


def test_sections_over_each_other_are_refused_though_their_digests_fit(base: bytes) -> None:
    at, size = struct.unpack_from("<QQ", base, 24)
    body, table = base[:at], table_of(base)
    rows = sorted(table["sections"], key=lambda row: row["offset"])
    rows[2]["offset"] = rows[1]["offset"]
    digests_made_anew(body, table)
    with pytest.raises(MaceError, match="is not where a section can be"):
        open_package(sealed(body, json.dumps(table).encode(), base[at + size :]))

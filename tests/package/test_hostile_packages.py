"""Packages that somebody changed: each is used as it was, or refused in one sentence; the process lives on."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scheduler_models import constant, model, op, tensor
from scheduler_stand_ins import registry_of

from mace_core.errors import MaceError
from mace_core.frontend.load import load_model
from mace_core.package import NewSection, open_package, write_package
from mace_core.package.compiled import CompiledPart, placement_section
from mace_core.package.graphs import graph_sections
from mace_core.session import Session

CHANGED = 150
FORGED = 250
INTERNALS = ("Error", "Traceback", "object has no", "NoneType", "out of range", "unpack", ".py:", "<class", "0x")
X = np.arange(8, dtype=np.float32).reshape(1, 8)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with sections of every kind, of a graph with attributes of several kinds and a nested one."""
    body = model([op("Mul", ["x", "w"], ["b"])], [], [tensor("b", [1, 8])]).graph
    other = model([op("Neg", ["x"], ["c"])], [], [tensor("c", [1, 8])]).graph
    graph = load_model(
        model(
            [
                op("ReduceSum", ["x", "axes"], ["s"], keepdims=1),
                op("Greater", ["s", "zero"], ["g"]),
                op("Squeeze", ["g", "one"], ["f"]),
                op("If", ["f"], ["t"], then_branch=body, else_branch=other),
                op("Slice", ["t", "starts", "ends"], ["u"]),
                op("Transpose", ["u"], ["v"], perm=[1, 0]),
                op("LeakyRelu", ["v"], ["y"], alpha=0.5),
            ],
            [tensor("x", [1, 8])],
            [tensor("y", [4, 1])],
            [
                constant("w", np.arange(8, dtype=np.float32).reshape(1, 8)),
                constant("axes", np.int64([1])),
                constant("zero", np.float32([0])),
                constant("one", np.int64([0, 1])),
                constant("starts", np.int64([0, 2])),
                constant("ends", np.int64([1, 6])),
            ],
        )
    )
    path = tmp_path_factory.mktemp("hostile") / "model.mace"
    part = CompiledPart("far:0", "11", "driver 1", "{}", "x=1x8", 1, 1)
    sections = [*graph_sections({"optimized": graph}), part.to_section(0, [b"code" * 40])]
    write_package(path, [*sections, placement_section("22", b"{}")], {"made_by": "a test"})
    return path


def outcome(path: Path) -> str:
    """ "ran", or what it was refused with.  Whatever else is raised fails the test."""
    try:
        with Session(path, devices=["reference"], registry=registry_of(), cache=False) as session:
            feeds = {spec.name: np.ones([d if isinstance(d, int) else 1 for d in spec.shape or ()], np.float32)
                     if spec.shape != (1, 8) else X for spec in session.inputs}  # fmt: skip
            session.run(feeds)
        return "ran"
    except MaceError as error:
        return str(error)


def check_told(told: str) -> None:
    assert told.count("\n") == 0 and 20 < len(told) < 1500, told
    assert not any(word in told for word in INTERNALS), told


def changes(content: bytes, number: random.Random) -> Iterator[bytes]:
    """Bytes flipped, set, cut out, put in, doubled and cut off, anywhere in the file."""
    while True:
        data = bytearray(content)
        at = number.randrange(len(data))
        match number.randrange(7):
            case 0:
                data[at] ^= 1 << number.randrange(8)
            case 1:
                data[at] = number.choice((0, 0xFF, 0x7F)) if data[at] not in (0, 0xFF, 0x7F) else data[at] ^ 0x55
            case 2:
                del data[at:]
            case 3:
                del data[at : at + number.randrange(1, 200)]
            case 4:
                data[at:at] = number.randbytes(number.randrange(1, 200))
            case 5:
                data[at : at + 64] = number.randbytes(len(data[at : at + 64]))
            case 6:
                data += data[: number.randrange(1, 500)]
        if data != content:
            yield bytes(data)


def test_every_change_of_a_package_is_found(package: Path, tmp_path: Path) -> None:
    content = package.read_bytes()
    assert outcome(package) == "ran"
    path = tmp_path / "model.mace"
    changed = changes(content, random.Random(0))
    for _ in range(CHANGED):
        path.write_bytes(next(changed))
        told = outcome(path)
        check_told(told)
        assert "model.mace'" in told
        assert any(word in told for word in ("is damaged", "is truncated", "is not a MACE package", "is empty")), told


def _places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*path, key))


ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2, 3, 7, 1 << 40, 1 << 70, -(1 << 63), 0.5, 1e300, float("nan")),
    *("", "x", "y", "Conv", "If", "n", [], [0], [[]], {}, ["t", 1, [4, 4]], ["s", ["a"]], ["c", 0], [1, [8], "c", 0]),
    *(["w", 0, 32], ["w", -64, 32], ["w", 0, 1 << 60]),
)


def forged(document: Any, number: random.Random) -> Any:
    """The document with one or two places changed."""
    found = copy.deepcopy(document)
    for _ in range(number.choice((1, 1, 2))):
        *path, last = number.choice(list(_places(found)))
        holder = found
        for key in path:
            holder = holder[key]
        match number.randrange(4):
            case 0 if isinstance(holder, list):
                del holder[last]
            case 1 if isinstance(holder, list):
                holder.insert(last, copy.deepcopy(holder[last]))
            case 2 if isinstance(holder[last], int) and not isinstance(holder[last], bool):
                holder[last] += number.choice((-2, -1, 1, 2, 64))
            case _:
                holder[last] = copy.deepcopy(number.choice(ODD))
    return found


def test_graphs_that_somebody_forged_run_or_are_refused(package: Path, tmp_path: Path) -> None:
    opened = open_package(package)
    sections = {one.kind: one for one in opened.sections}
    document = json.loads(bytes(opened.view(sections["graph"])))
    path = tmp_path / "model.mace"
    number = random.Random(1)
    outcomes = []
    for _ in range(FORGED):
        text = json.dumps(forged(document, number)).encode()
        graph = NewSection("graph", "optimized", [text], is_required=True, facts={"form": 1})
        weights = NewSection("weights", "", [opened.view(sections["weights"])], is_required=True)
        write_package(path, [graph, weights], {})
        told = outcome(path)
        outcomes.append(told)
        if told != "ran":
            check_told(told)
    assert 10 < outcomes.count("ran") < FORGED / 2
    assert sum("in its graph, " in told for told in outcomes) > 20


def test_a_node_without_what_its_operator_takes_is_refused(package: Path, tmp_path: Path) -> None:
    """An importer would not let it pass; the rules of operators rely on that."""
    opened = open_package(package)
    weights = NewSection("weights", "", [opened.view(next(opened.of_kind("weights")))], is_required=True)
    path = tmp_path / "model.mace"
    for number in range(7):
        document = json.loads(bytes(opened.view(next(opened.of_kind("graph")))))
        node = document["graph"][6][number]
        node[5] = []  # its attributes
        for inputs in (node[3], []):
            node[3] = inputs
            text = json.dumps(document).encode()
            write_package(path, [NewSection("graph", "optimized", [text], True, {"form": 1}), weights], {})
            told = outcome(path)
            if told != "ran":
                check_told(told)
            else:
                assert inputs  # its attributes have defaults


def test_facts_and_records_that_somebody_forged(package: Path, tmp_path: Path) -> None:
    opened = open_package(package)
    number = random.Random(2)
    path = tmp_path / "model.mace"
    for count in range(60):
        sections = []
        for one in opened.sections:
            facts: Any = dict(one.facts)
            if facts and count % 2:
                facts = forged(facts, number)
            content: Any = opened.view(one)
            if one.kind == "placement" and not count % 2:
                content = json.dumps(forged({"nodes": ["a"], "asked": [], "partitions": []}, number)).encode()
            sections.append(NewSection(one.kind, one.name, [content], one.is_required, facts))
        write_package(path, sections, {})
        told = outcome(path)
        if told != "ran":
            check_told(told)


def test_a_graph_that_is_nested_without_end_is_refused(package: Path, tmp_path: Path) -> None:
    opened = open_package(package)
    weights = next(opened.of_kind("weights"))
    path = tmp_path / "model.mace"
    for text in (b"[" * 200_000, b'{"graph":' * 50_000, b"1" * 6000, b"\xff\xfe", b"null", b"[]", b'{"graph":[]}'):
        graph = NewSection("graph", "optimized", [text], is_required=True, facts={"form": 1})
        write_package(path, [graph, NewSection("weights", "", [opened.view(weights)], is_required=True)], {})
        told = outcome(path)
        check_told(told)
        assert "its graph is not one" in told

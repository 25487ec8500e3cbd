"""What a provider says is acted upon: shapes it serves, blobs' worth, constants it holds, nodes of spans, silence."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import scheduler_stand_ins as stand_ins
from scheduler_models import chain, constant, model, op, tensor
from scheduler_stand_ins import StandInBackend, make_provider, registry_of

from mace_core.compilation import compile_model as compile_ahead
from mace_core.graph import GraphView
from mace_core.provider import (
    Bindings,
    Capability,
    Claim,
    Compatibility,
    CompiledSubgraph,
    Rejection,
    ShapeSupport,
)
from mace_core.scheduler.profile import Profile
from mace_core.session import Session
from mace_core.tensor import MemoryKind


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))


def rows(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(count).uniform(-1, 1, (count, 4)).astype(np.float32)


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", list(MemoryKind)[:3])
@pytest.mark.parametrize(
    ("support", "compiles"), [(ShapeSupport.DYNAMIC, 1), (ShapeSupport.STATIC, 4), (ShapeSupport.BOUNDED, 4)]
)
def test_a_provider_of_any_shape_compiles_once(
    monkeypatch: pytest.MonkeyPatch, support: ShapeSupport, compiles: int, memory: MemoryKind
) -> None:
    monkeypatch.setattr(StandInBackend, "shape_support", support)
    provider = make_provider("odd", memory=memory)
    with Session(chain("Neg", "Abs"), devices=["odd"], registry=registry_of(provider)) as session:
        for count in (1, 5, 2, 7, 1, 5):
            np.testing.assert_array_equal(session.run({"x": rows(count)})["y"], np.abs(-rows(count)))
        (backend,) = provider.opened
        assert backend.compile_calls == compiles
        assert backend.compiled_alive == compiles
    assert backend.closed
    assert backend.compiled_alive == 0


def test_dropped_plans_keep_what_others_use_and_the_last_one_frees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandInBackend, "shape_support", ShapeSupport.DYNAMIC)
    provider = make_provider("odd")
    session = Session(chain("Neg"), devices=["odd"], registry=registry_of(provider), max_signatures=1)
    with session:
        for count in (1, 2, 3, 1, 2, 3):
            np.testing.assert_array_equal(session.run({"x": rows(count)})["y"], -rows(count))
        (backend,) = provider.opened
        assert (backend.compile_calls, backend.compiled_alive) == (1, 1)


def test_only_new_pieces_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pieces on one device, of which one reads content that the shapes decide."""
    monkeypatch.setattr(StandInBackend, "shape_support", ShapeSupport.DYNAMIC)
    seen: list[list[str]] = []
    honest = StandInBackend.compile

    def compile_(self: StandInBackend, views: Sequence[GraphView]) -> list[CompiledSubgraph]:
        seen.append([node.op_type for view in views for node in view.nodes])
        return honest(self, views)

    monkeypatch.setattr(StandInBackend, "compile", compile_)
    nodes = [
        op("Neg", ["x"], ["a"]),
        op("Abs", ["a"], ["b"]),
        op("Shape", ["b"], ["s"]),
        op("Concat", ["s", "one"], ["to"], axis=0),
        op("Reshape", ["b", "to"], ["y"]),
    ]
    constants = [constant("one", np.array([1], np.int64))]
    whole = model(nodes, [tensor("x", ["n", 4])], [tensor("y", None)], constants)
    provider = make_provider("odd", claims={"Neg", "Reshape"})
    with Session(whole, devices=["odd"], registry=registry_of(provider)) as session:
        for count in (1, 2, 3):
            expected = np.abs(-rows(count)).reshape(count, 4, 1)
            np.testing.assert_array_equal(session.run({"x": rows(count)})["y"], expected)
    assert seen == [["Neg", "Reshape"], ["Reshape"], ["Reshape"]], "the target of the Reshape is another each time"


def test_another_rank_or_element_type_is_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandInBackend, "shape_support", ShapeSupport.DYNAMIC)
    provider = make_provider("odd")
    anything = model([op("Neg", ["x"], ["y"])], [tensor("x", None)], [tensor("y", None)])
    with Session(anything, devices=["odd"], registry=registry_of(provider)) as session:
        for x in (rows(1), rows(2), rows(2)[0], rows(4)[0], rows(2)[None]):
            np.testing.assert_array_equal(session.run({"x": x})["y"], -x)
        assert provider.opened[0].compile_calls == 3


def test_a_dynamic_device_is_not_said_to_compile_another_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandInBackend, "shape_support", ShapeSupport.DYNAMIC)
    with Session(chain("Neg"), devices=["odd"], registry=registry_of(make_provider("odd"))) as session:
        session.run({"x": rows(1)})
        assert session.explain().compile_per_shape == []


# --- silence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rejections", "words"),
    [
        (False, "the provider 'odd' neither claims nor rejects it"),
        ("", "the provider 'odd' rejects it without a reason"),
        ("  ", "the provider 'odd' rejects it without a reason"),
        ("too hot today", "too hot today"),
    ],
)
def test_who_does_not_say_why_is_named(monkeypatch: pytest.MonkeyPatch, rejections: str | bool, words: str) -> None:
    def capability(self: StandInBackend, view: GraphView) -> Capability:
        claims = [Claim((node,)) for node in view.nodes if node.op_type == "Neg"]
        others = [node for node in view.nodes if node.op_type != "Neg"]
        return Capability(claims, [Rejection(node, rejections) for node in others if isinstance(rejections, str)])

    monkeypatch.setattr(StandInBackend, "capability", capability)
    with Session(chain("Neg", "Abs"), devices=["odd"], registry=registry_of(make_provider("odd"))) as session:
        session.run({"x": rows(1)})
        declined = {node.op: node.declined.get("odd:0", "") for node in session.explain().nodes}
    assert declined["Neg"] == ""
    assert words in declined["Abs"]


# --- blobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("worth", list(Compatibility))
def test_what_a_stored_program_is_worth_decides_its_use_and_is_told(
    monkeypatch: pytest.MonkeyPatch, worth: Compatibility
) -> None:
    def deserialize(self: StandInBackend, blob: bytes, views: Sequence[GraphView]) -> list[CompiledSubgraph]:
        inner = self.reference.compile(views)
        return [stand_ins.StandInSubgraph(self, view, one) for view, one in zip(views, inner, strict=True)]

    monkeypatch.setattr(StandInBackend, "serialize", lambda self, compiled: b"stored", raising=False)
    monkeypatch.setattr(StandInBackend, "deserialize", deserialize, raising=False)
    monkeypatch.setattr(StandInBackend, "check_compatibility", lambda self, key: worth, raising=False)
    provider = make_provider("odd")
    registry = registry_of(provider)
    for _ in range(2):
        with Session(chain("Neg", shape=(1, 4)), devices=["odd"], registry=registry) as session:
            np.testing.assert_array_equal(session.run({"x": rows(1)})["y"], -rows(1))
            told = str(session.explain())
    used = worth in (Compatibility.OPTIMAL, Compatibility.USABLE)
    assert [backend.compile_calls for backend in provider.opened] == [1, 0 if used else 1]
    assert ("usable, not optimal" in told) is (worth is Compatibility.USABLE)


# --- constants --------------------------------------------------------------------------------------------------------


def resident_bytes(path: Path) -> int:
    """Memory of this process that is mapped from ``path`` and there."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split(" ", 1)[0].endswith(":"):
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("consumes", [True, False])
def test_memory_of_constants_that_a_provider_holds_itself_is_given_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, consumes: bool
) -> None:
    weights = np.random.default_rng(0).uniform(-1, 1, (4, 1 << 20)).astype(np.float32)
    whole = model(
        [op("MatMul", ["x", "w"], ["y"])], [tensor("x", ["n", 4])], [tensor("y", None)], [constant("w", weights)]
    )
    path = tmp_path / "large.onnx"
    onnx.save(whole, path)
    honest = StandInBackend.compile

    def compile_(self: StandInBackend, views: Sequence[GraphView]) -> list[CompiledSubgraph]:
        found = honest(self, views)
        for view, subgraph in zip(views, found, strict=True):
            (node,) = view.nodes
            held = view.constant(node.inputs[1])
            assert held is not None
            copied = held.numpy().copy()
            for slot in subgraph.inner.constants:
                subgraph.inner.constants[slot] = copied
            if consumes:
                subgraph.consumed_constants = frozenset({"w"})
        return found

    monkeypatch.setattr(StandInBackend, "compile", compile_)
    with Session(path, devices=["odd"], registry=registry_of(make_provider("odd"))) as session:
        session.prepare({"x": (1, 4)})
        held = resident_bytes(path)
        assert (held < weights.nbytes // 8) is consumes, held
        for count in (1, 2):  # the second one compiles again: the content comes from the file
            np.testing.assert_allclose(session.run({"x": rows(count)})["y"], rows(count) @ weights, atol=1e-5)


def test_only_read_only_pages_of_a_file_are_given_back(tmp_path: Path) -> None:
    from mace_core.tensor.files import open_bytes, release_pages

    path = tmp_path / "weights.bin"
    path.write_bytes(np.arange(1 << 16, dtype=np.uint8).tobytes())
    data = open_bytes(path, mmap=True).data
    before = data.copy()
    assert release_pages(data) == data.nbytes
    assert release_pages(data[100:]) == data.nbytes - 4096
    assert release_pages(data[:100]) == 0
    assert release_pages(data[::2]) == 0
    assert release_pages(before) == 0
    np.testing.assert_array_equal(data, before)


# --- spans ------------------------------------------------------------------------------------------------------------


def test_spans_without_nodes_get_those_of_the_source_map(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = stand_ins.StandInExecution.run

    def run(self: stand_ins.StandInExecution, bindings: Bindings) -> None:
        profile, part, bindings.profile = bindings.profile, bindings.profile_part, None
        honest(self, bindings)
        if profile is not None and part is not None:
            profile("fused 1", (), 1, 2)
            part("core 0", "fused 1", (), 1, 2)
            profile("fused 2", ("own",), 2, 3)
            profile("fused 3", (), 3, 4)

    monkeypatch.setattr(stand_ins.StandInExecution, "run", run)
    monkeypatch.setattr(stand_ins.StandInSubgraph, "source_map", {"fused 1": ("Neg_t0", "Abs_y"), "fused 2": ("x",)})
    found = Profile()
    with Session(chain("Neg", "Abs"), devices=["odd"], registry=registry_of(make_provider("odd"))) as session:
        session.run({"x": rows(1)}, profile=found)
    assert [span.source for span in found.spans] == [("Neg_t0", "Abs_y"), ("own",), ()]
    assert [part.source for part in found.parts] == [("Neg_t0", "Abs_y")]


# --- stored forms in packages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("covers", [False, True])
def test_options_that_the_key_covers_are_left_to_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, covers: bool
) -> None:
    class Storing(StandInBackend):
        def serialize(self, compiled: Sequence[CompiledSubgraph]) -> bytes:
            return b"stored"

        def deserialize(self, blob: bytes, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
            calls, found = self.compile_calls, self.compile(subgraphs)
            self.compile_calls = calls
            return found

    monkeypatch.setattr(stand_ins, "StandInBackend", Storing)
    package, compiles = tmp_path / "m.mace", {}
    for speed in (None, 9):
        provider = make_provider("odd", key_covers_options=covers)
        registry = registry_of(provider)
        if speed is None:
            compile_ahead(chain("Neg", "Abs"), package, devices="odd", shapes={"x": (2, 4)}, registry=registry)
            provider.opened.clear()
        options = {} if speed is None else {"odd": {"speed": speed}}
        with Session(package, devices=["odd"], registry=registry, options=options) as session:
            session.run({"x": rows(2)})
        compiles[speed] = provider.opened[0].compile_calls
    assert compiles == {None: 0, 9: 0 if covers else 1}

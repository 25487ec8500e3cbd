"""What is remembered between processes: graphs, shapes, compiled blobs; and that damage is noticed."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import scheduler_stand_ins
from scheduler_models import chain, constant, model, op, tensor
from scheduler_stand_ins import StandInBackend, make_provider, registry_of

from mace_core.errors import UnsupportedError
from mace_core.graph import GraphView
from mace_core.provider import Compatibility, CompiledSubgraph, hooks
from mace_core.session import Session

X = np.array([[-2.0, -1.0, 1.0, 3.0]], np.float32)


class StoringBackend(StandInBackend):
    """A backend whose blobs are the names of the nodes."""

    compatibility = "driver 1"
    restored = 0
    refuse_blobs = False

    def serialize(self, compiled: Sequence[CompiledSubgraph]) -> bytes:
        return repr([one.names for one in compiled]).encode()  # type: ignore[attr-defined]

    def deserialize(self, blob: bytes, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        if self.refuse_blobs:
            raise UnsupportedError("no more")
        assert blob == repr([[node.name for node in view.nodes] for view in subgraphs]).encode()
        type(self).restored += 1
        calls = self.compile_calls
        compiled = self.compile(subgraphs)
        self.compile_calls = calls
        return compiled

    def compatibility_key(self) -> str:
        return self.compatibility


@pytest.fixture
def storing(monkeypatch: pytest.MonkeyPatch) -> type[StoringBackend]:
    monkeypatch.setattr(scheduler_stand_ins, "StandInBackend", StoringBackend)
    monkeypatch.setattr(StoringBackend, "restored", 0)
    return StoringBackend


def run_once(given: Any, **options: Any) -> StoringBackend:
    far = make_provider("far")
    with Session(given, devices=["far"], registry=registry_of(far), **options) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], np.abs(X))
    backend = far.opened[-1]
    assert isinstance(backend, StoringBackend)
    return backend


def test_a_stored_compilation_is_restored(storing: type[StoringBackend], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(chain("Neg", "Abs"), path)
    assert run_once(path).compile_calls == 1
    for given in (path, path.read_bytes(), chain("Neg", "Abs")):  # the same graph, whatever it comes in
        assert run_once(given).compile_calls == 0
    assert storing.restored == 3


def test_what_a_blob_depends_on_makes_it_another_blob(storing: type[StoringBackend]) -> None:
    weighted = [
        model(
            [op("Mul", ["x", "w"], ["t"]), op("Abs", ["t"], ["y"])], [tensor("x", [1, 4])], [tensor("y", [1, 4])], [w]
        )
        for w in (constant("w", np.float32([1])), constant("w", np.float32([-1])))
    ]
    for given in weighted:  # weights
        assert run_once(given).compile_calls == 1
    assert run_once(weighted[0], options={"far": {"speed": 9}}).compile_calls == 1
    assert run_once(weighted[0], options={"far": {"speed": 9}}).compile_calls == 0
    assert storing.restored == 1


def test_blobs_made_under_another_driver_are_not_restored(
    storing: type[StoringBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_once(chain("Neg", "Abs"))
    monkeypatch.setattr(storing, "compatibility", "driver 2")
    assert run_once(chain("Neg", "Abs")).compile_calls == 1
    monkeypatch.setattr(storing, "check_compatibility", lambda self, key: Compatibility.USABLE)
    assert run_once(chain("Neg", "Abs")).compile_calls == 0


def test_a_blob_the_provider_refuses_is_compiled_anew(
    storing: type[StoringBackend], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_once(chain("Neg", "Abs"))
    monkeypatch.setattr(storing, "refuse_blobs", True)
    with caplog.at_level(logging.INFO, "mace"):
        assert run_once(chain("Neg", "Abs")).compile_calls == 1
    assert any("no more" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_damaged_entries_of_every_kind_are_made_again(
    storing: type[StoringBackend], own_cache: Path, tmp_path: Path, damage: Any
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(chain("Neg", "Abs"), path)
    run_once(path)
    kinds = {entry.parent.name for entry in own_cache.rglob("*.entry")}
    assert {"graphs", "resolutions", "blobs"} <= kinds
    for entry in own_cache.rglob("*.entry"):
        entry.write_bytes(damage(entry.read_bytes()))
    assert run_once(path).compile_calls == 1
    assert run_once(path).compile_calls == 0


def test_without_cache_nothing_is_written(storing: type[StoringBackend], own_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(chain("Neg", "Abs"), path)
    run_once(path, cache=False)
    kinds = {entry.parent.name for entry in own_cache.rglob("*.entry")}
    assert not kinds & {"graphs", "resolutions", "blobs"}


def test_a_changed_model_file_is_loaded_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for ops, expected in ((("Neg",), -X), (("Abs",), np.abs(X))):
        onnx.save(chain(*ops), path)
        with Session(path, devices=["reference"], registry=registry_of()) as session:
            np.testing.assert_array_equal(session.run({"x": X})["y"], expected)


WARM = """
import sys
sys.path.insert(0, sys.argv[2])
import numpy as np
from scheduler_stand_ins import make_provider, registry_of, StandInBackend, HostAllocator
from mace_core.provider import CompiledSubgraph, Execution
from mace_core.session import Session

class Nothing(Execution):
    def run(self, bindings):
        pass

class Compiled(CompiledSubgraph):
    def new_execution(self):
        return Nothing()

StandInBackend.compile = lambda self, views: [Compiled() for _ in views]
with Session(sys.argv[1], devices=["far"], registry=registry_of(make_provider("far"))) as session:
    session.run({"x": np.ones((2, 4), np.float32)})
print(",".join(sorted({"onnx", "numba"} & set(sys.modules))))
"""


def test_a_second_process_imports_neither_onnx_nor_numba(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    nodes = [
        op("Shape", ["x"], ["s"]),
        op("Reshape", ["x", "s"], ["t"]),
        op("DepthToSpace", ["t4", "w"][:1], ["u"], blocksize=2),
        op("Flatten", ["u"], ["y"]),
    ]
    nodes.insert(2, op("Reshape", ["t", "four"], ["t4"]))
    built = model(
        nodes, [tensor("x", ["n", 4])], [tensor("y", [None, None])], [constant("four", np.array([-1, 4, 1, 1]))]
    )
    onnx.save(built, path)
    folder = str(Path(__file__).parent.parent / "scheduler")
    imported = [
        subprocess.run(
            [sys.executable, "-c", WARM, str(path), folder], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert "onnx" in imported[0]
    assert imported[1].strip() == ""


def test_plugins_are_told_of_partition_compilation_and_profile() -> None:
    from mace_core.provider.hook_specs import hookimpl

    told: list[Any] = []

    class Observer:
        @hookimpl
        def mace_on_partition(self, event: Any) -> None:
            told.append(("partition", event.parts, event.signature, event.rejections))

        @hookimpl
        def mace_on_compile(self, event: Any) -> None:
            told.append(("compile", event.device, event.nodes, event.error))

        @hookimpl
        def mace_on_run_profile(self, event: Any) -> None:
            told.append(("profile", [span.name for span in event.spans]))

    far = make_provider("far", claims={"Neg"})
    manager = hooks.default_hooks()
    manager.register(Observer(), "observer")
    try:
        with Session(chain("Neg", "Abs"), devices=["far"], registry=registry_of(far)) as session:
            session.profile({"x": X})
    finally:
        manager.unregister("observer")
    assert told == [
        ("compile", "far:0", ("Neg_t0",), ""),
        ("compile", "reference:0", ("Abs_y",), ""),
        (
            "partition",
            (("far:0", ("Neg_t0",)), ("reference:0", ("Abs_y",))),
            {"x": (1, 4)},
            (("Abs_y", "far:0", "far has no Abs"),),
        ),
        ("profile", ["Neg_t0", "Abs_y"]),
    ]


def test_options_of_a_device_are_part_of_a_stored_placement(storing: type[StoringBackend]) -> None:
    """A device that declines everything under one option compiles nothing whose key could tell the options apart."""
    near, placed = make_provider("near"), []
    for speed in (1, 9, 1):
        far = make_provider("far", claims={"Neg", "Abs"} if speed == 9 else set())
        options = {"far": {"speed": speed}}
        given = {"devices": ["far", "near"], "registry": registry_of(far, near), "options": options}
        with Session(chain("Neg", "Abs"), **given) as session:
            np.testing.assert_array_equal(session.run({"x": X})["y"], np.abs(X))
            placed.append({entry.device for entry in session.explain().nodes})
    assert placed == [{"near:0"}, {"far:0"}, {"near:0"}]

"""Memory of sessions whose shapes change: arenas belong to runs, and closing frees everything."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core.provider import Buffer, weights
from mace_core.scheduler.planning.host_arenas import HostArenas
from mace_core.session import Session
from mace_core.tensor import MemoryKind

CHANNELS = 16
THREADS = 8


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three convolutions over (1, 16, 32, W): the results between them live in the arena."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    names = ["x", "a", "b", "y"]
    kernels = [
        numpy_helper.from_array(rng.normal(0, 0.1, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32), f"w{i}")
        for i in range(3)
    ]
    nodes = [helper.make_node("Conv", [names[i], f"w{i}"], [names[i + 1]], pads=[1, 1, 1, 1]) for i in range(3)]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, CHANNELS, 32, "w"]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "pictures", info[:1], info[1:], kernels)
    target = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), target)
    return target


def picture(width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(width).normal(0, 1, (1, CHANNELS, 32, width)).astype(np.float32)


def at_once(count: int, work: Callable[[], object]) -> None:
    barrier = threading.Barrier(count)

    def one() -> None:
        barrier.wait()
        work()

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_idle_arenas_are_as_many_as_runs_were_at_once_whatever_the_shapes(path: Path) -> None:
    widths = [8 * i for i in range(1, 17)]
    with Session(path) as session:
        for width in widths:
            at_once(THREADS, lambda width=width: session.run({"x": picture(width)}))  # type: ignore[misc]
        idle = session._pool.arenas.held_bytes
    assert 1 <= len(idle) <= THREADS
    with Session(path) as one:
        one.run({"x": picture(widths[-1])})
        (largest,) = one._pool.arenas.held_bytes
    assert largest > 0
    assert max(idle) <= largest * 1.25  # a plan for many shapes may need a little more than one for this shape


def test_threads_that_share_arenas_do_not_disturb_one_another(path: Path) -> None:
    widths = [8, 24, 40, 56]
    with Session(path, max_signatures=2) as session:
        alone = {width: session.run({"x": picture(width)})["y"] for width in widths}
        wrong: list[int] = []

        def work() -> None:
            for width in widths * 5:
                if not np.array_equal(session.run({"x": picture(width)})["y"], alone[width]):
                    wrong.append(width)

        at_once(THREADS, work)
    assert wrong == []


def test_closing_frees_arenas_and_weights_also_after_many_threads_met_new_shapes(path: Path) -> None:
    session = Session(path)
    for width in (8, 16, 24, 32, 40, 48):
        at_once(THREADS, lambda width=width: session.run({"x": picture(width)}))  # type: ignore[misc]
    arenas = session._pool.arenas
    assert arenas.held_bytes
    session.close()
    assert arenas.held_bytes == []
    pool = weakref.ref(session._pool)
    assert pool()._users == 0  # type: ignore[union-attr]


def test_memory_of_a_run_that_fails_is_not_lent_again(path: Path) -> None:
    with Session(path) as session:
        session.run({"x": picture(8)})
        (plan,) = session._runner.plans()
        instance = plan._idle[-1]  # type: ignore[union-attr]

        def fail(*_: object) -> None:
            raise RuntimeError("stopped")

        instance.run_single = fail  # type: ignore[method-assign,assignment]
        with pytest.raises(RuntimeError, match="stopped"):
            session.run({"x": picture(8)})
        assert session._pool.arenas.held_bytes == []
        session.run({"x": picture(8)})
        assert len(session._pool.arenas.held_bytes) == 1


@dataclass(eq=False)
class Holder:
    """Stands for an instance of a plan."""

    needed_bytes: int
    needs_arena: bool = True
    host_arena: Buffer = field(default_factory=lambda: Buffer(MemoryKind.HOST, 0))


def test_an_arena_is_taken_from_whoever_no_run_is_using() -> None:
    arenas, idle = HostArenas(0), []  # type: ignore[var-annotated]
    small, large, other, larger = (Holder(nbytes) for nbytes in (100, 300, 200, 400))
    for holder in (small, large):
        arenas.equip(holder, idle)
    assert sorted(arenas.held_bytes) == [100, 300]
    idle += [small, large]
    address = large.host_arena.address
    arenas.equip(other, idle)  # of the two the one that is large enough
    assert (other.host_arena.address, other.host_arena.nbytes) == (address, 300)
    assert large.needs_arena and large.host_arena.handle is None and not small.needs_arena
    assert idle == [large, small]
    arenas.equip(larger, idle)  # none fits: the one of 100 bytes makes room
    assert sorted(arenas.held_bytes) == [300, 400]
    idle.clear()  # runs are using all of them
    arenas.equip(small, idle)
    assert sorted(arenas.held_bytes) == [100, 300, 400]
    small.needed_bytes = 350
    arenas.equip(small, idle)  # its own makes room, for an eighth more
    assert sorted(arenas.held_bytes) == [300, 393, 400]
    for holder in (small, other, larger):
        arenas.forget(holder)
    assert arenas.held_bytes == []


def matmul(path: Path, columns: int = 256) -> Path:
    """One product with 256 KiB of weights."""
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 256]) for n in ("x", "y")]
    content = np.random.default_rng(3).normal(0, 0.1, (256, columns)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "product", info[:1], info[1:],
        [numpy_helper.from_array(content, "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def held() -> int:
    gc.collect()
    return sum(array.nbytes for array in weights._arrays.values())


def files(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.entry"))


@pytest.mark.parametrize("cache", [True, False])
def test_weights_are_held_once_by_all_shapes_and_sessions_and_freed_with_the_last(
    path: Path, tmp_path: Path, cache: bool
) -> None:
    model, size = matmul(tmp_path / "p.onnx"), 4 * 256 * 256
    before = held()
    options = [{"cpu": {"threads": threads}} for threads in (1, 2)]
    sessions = [Session(model, cache=cache, options=given, devices=["cpu"]) for given in (*options, *options)]
    for rows in (1, 2, 7, 12, 64):
        x = np.random.default_rng(rows).normal(0, 1, (rows, 256)).astype(np.float32)
        first, *others = [session.run({"x": x})["y"] for session in sessions]
        for other in others:
            np.testing.assert_allclose(other, first, rtol=1e-5, atol=1e-5)
    assert size <= held() - before <= 2 * size  # two forms, for few rows and for many, at most
    for session in sessions:
        session.close()
    del session, sessions
    assert held() == before


def test_the_cache_holds_one_copy_of_the_weights_for_all_shapes_and_threads(path: Path, tmp_path: Path) -> None:
    model, size = matmul(tmp_path / "p.onnx"), 4 * 256 * 256
    folder = tmp_path / "cache"

    def use(rows: int, threads: int) -> Any:
        with Session(model, options={"cpu": {"threads": threads}}, devices=["cpu"], strict=True) as session:
            session.run({"x": np.ones((rows, 256), np.float32)})
            return session.explain({"x": (rows, 256)}).preparations[0].restored

    assert not use(64, 1)
    once = files(folder / "blobs")
    assert size <= once < 1.5 * size
    for rows in (65, 66, 80, 128):  # processes that begin with another shape
        use(rows, 1)
    use(64, 2)
    assert files(folder / "blobs") < once + 6 * 0.25 * size
    assert use(64, 2)


def test_a_stored_subgraph_without_its_weights_is_compiled_and_stored_again(path: Path, tmp_path: Path) -> None:
    model = matmul(tmp_path / "p.onnx")
    folder = tmp_path / "cache" / "blobs"
    x = np.ones((5, 256), np.float32)

    def use() -> tuple[bool, Any]:
        with Session(model, devices=["cpu"], strict=True) as session:
            result = session.run({"x": x})["y"]
            return session.explain({"x": (5, 256)}).preparations[-1].restored, result

    first, expected = use()
    assert not first
    assert use()[0]
    pack = max(folder.glob("*.entry"), key=lambda file: file.stat().st_size)
    for spoil in (Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:-1] + b"!")):
        spoil(pack)
        restored, result = use()
        np.testing.assert_array_equal(result, expected)
        assert not restored
        restored, result = use()
        np.testing.assert_array_equal(result, expected)
        assert restored

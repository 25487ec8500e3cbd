"""Outputs that a run writes into arrays of the caller: where they lie, or copied and told; and what is refused."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mace_core import Session
from mace_core.errors import CancelledError, InputError, InputTypeError, MaceError, UsageError
from mace_core.graph import Graph, Node, Value
from mace_core.provider.execution import Bindings, CancelFlag, Execution
from mace_core.scheduler.profile import Profile
from mace_core.scheduler.running import calls, executor, single_runs
from mace_core.scheduler.running.written import _taken
from mace_core.tensor import DType, Tensor, TensorType

F32, I64 = DType.FLOAT32, DType.INT64


def value(name: str, dtype: DType, *shape: int | str) -> Value:
    return Value(name, TensorType(dtype, shape))


def model(nodes: list[tuple[str, list[Value], list[Value]]], inputs: list[Value], outputs: list[Value]) -> Graph:
    graph = Graph("small")
    graph.opset_imports[""] = 17
    graph.inputs, graph.outputs = inputs, outputs
    graph.nodes = [Node(kind, read, made, name=f"{kind}_{made[0].name}") for kind, read, made in nodes]
    return graph


def two_outputs() -> Graph:
    """``y`` = -x, ``z`` = |x|."""
    x, y, z = (value(name, F32, "n", 4) for name in "xyz")
    return model([("Neg", [x], [y]), ("Abs", [x], [z])], [x], [y, z])


def sums() -> Graph:
    """``y``: running sums of x along its last axis, ``z`` = |x|: both are wrong where x is written over on the way."""
    x, y, z = (value(name, F32, "n", 4) for name in "xyz")
    axis = value("axis", I64)
    axis.constant = Tensor.from_numpy(np.array(1, np.int64))
    graph = model([("CumSum", [x, axis], [y]), ("Abs", [x], [z])], [x], [y, z])
    graph.initializers["axis"] = axis
    return graph


def with_constant(weights: np.ndarray) -> Graph:
    """``y`` = x + weights."""
    x, y, w = value("x", F32, 2, 4), value("y", F32, 2, 4), value("w", F32, 2, 4)
    w.constant = Tensor.from_numpy(weights)
    graph = model([("Add", [x, w], [y])], [x], [y])
    graph.initializers["w"] = w
    return graph


def data_dependent() -> Graph:
    """``p``: where x is not zero; ``y`` = -p, in a stage of its own."""
    x, p, y = value("x", F32, "n", 4), value("p", I64, 2, "found"), value("y", I64, 2, "found")
    return model([("NonZero", [x], [p]), ("Neg", [p], [y])], [x], [p, y])


def passed_on() -> Graph:
    """``y`` is ``x``, ``z`` = -x."""
    x, y, z = (value(name, F32, 2, 4) for name in "xyz")
    return model([("Identity", [x], [y]), ("Neg", [x], [z])], [x], [y, z])


X = np.arange(8, dtype=np.float32).reshape(2, 4) - 3


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The addresses that each call of a provider was to write to."""
    seen: list[int] = []

    def run(execution: Execution, bindings: Bindings, device: Any) -> None:
        seen.extend(tensor.address for tensor in bindings.outputs if tensor is not None)
        calls.run_execution(execution, bindings, device)

    monkeypatch.setattr(single_runs, "run_execution", run)
    monkeypatch.setattr(executor, "run_execution", run)
    return seen


@pytest.fixture
def session() -> Iterator[Session]:
    with Session(two_outputs(), devices=["cpu"]) as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_stays_reserved() -> Iterator[None]:
    yield
    assert not _taken


def apart(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """An array that is aligned to its elements and to nothing more."""
    memory = np.zeros(int(np.prod(shape)) + 1, dtype)
    return memory[1:].reshape(shape)


class TestWrittenWhereTheyLie:
    def test_the_last_kernel_writes_the_callers_array(self, session: Session, written: list[int]) -> None:
        y, z = apart(2, 4), apart(2, 4)
        for scale in (1, 2):
            found = session.run({"x": X * scale}, into={"y": y, "z": z})
            assert found["y"] is y and found["z"] is z
            np.testing.assert_array_equal(y, -X * scale)
            np.testing.assert_array_equal(z, abs(X * scale))
        assert written == [y.ctypes.data, z.ctypes.data] * 2

    def test_outputs_without_an_array_are_new(self, session: Session) -> None:
        y = apart(2, 4)
        first, second = (session.run({"x": X}, into={"y": y}) for _ in range(2))
        assert not np.shares_memory(first["z"], second["z"]) and first["y"] is second["y"] is y

    def test_some_of_the_outputs(self, session: Session, written: list[int]) -> None:
        z = apart(2, 4)
        assert list(session.run({"x": X}, ["z"], into={"z": z})) == ["z"]
        assert written == [z.ctypes.data]
        np.testing.assert_array_equal(z, abs(X))

    def test_a_part_of_a_larger_array(self, session: Session, written: list[int]) -> None:
        whole = np.full((4, 4), 9, np.float32)
        session.run({"x": X}, into={"y": whole[1:3]})
        assert whole[1:3].ctypes.data in written
        np.testing.assert_array_equal(whole, np.vstack([np.full(4, 9), -X, np.full(4, 9)]))

    def test_other_shapes_other_arrays(self, session: Session, written: list[int]) -> None:
        for rows in (1, 3, 2, 7):
            x, y = np.full((rows, 4), rows, np.float32), apart(rows, 4)
            session.run({"x": x}, into={"y": y})
            np.testing.assert_array_equal(y, -x)
            assert y.ctypes.data in written

    def test_shapes_that_the_data_decide(self) -> None:
        with Session(data_dependent(), devices=["cpu"]) as session:
            for _ in range(4):  # at first stage by stage, then in a row
                p, y = apart(2, 7, dtype=np.int64), apart(2, 7, dtype=np.int64)
                profile = Profile()
                found = session.run({"x": X}, into={"p": p, "y": y}, profile=profile)
                np.testing.assert_array_equal(p, np.nonzero(X))
                np.testing.assert_array_equal(y, -p)
                assert found["p"] is p and found["y"] is y
                assert not [span.name for span in profile.spans if "copy" in span.name]
                with pytest.raises(InputError, match=r"output 'p' is int64\[2, 7\].*array for it is int64\[2, 6\]"):
                    session.run({"x": X}, into={"p": apart(2, 6, dtype=np.int64)})
                session.run({"x": X})

    def test_two_devices(self, written: list[int]) -> None:
        x, t, y = (value(name, F32, 2, 4) for name in "xty")
        graph = model([("Neg", [x], [t]), ("Abs", [t], [y])], [x], [y])
        with Session(graph, devices=["cpu", "reference"], pins={"Neg": "reference"}, optimize=False) as session:
            result = apart(2, 4)
            assert session.run({"x": X}, into={"y": result})["y"] is result
            np.testing.assert_array_equal(result, abs(X))
            assert written[-1] == result.ctypes.data


class TestCopiedAndTold:
    @pytest.mark.parametrize("array", [np.zeros((4, 4), np.float32)[::2], np.zeros((4, 2), np.float32).T])
    def test_memory_that_is_not_contiguous(self, session: Session, array: np.ndarray) -> None:
        with session.bind(outputs={"y": array}) as bound:
            assert bound.run({"x": X})["y"] is array
            assert bound.copied == {"y": "its memory is not contiguous and aligned"}
        np.testing.assert_array_equal(array, -X)

    def test_memory_that_is_not_aligned(self, session: Session) -> None:
        array = np.frombuffer(bytearray(33), np.float32, 8, offset=1).reshape(2, 4)
        session.run({"x": X}, into={"y": array})
        np.testing.assert_array_equal(array, -X)

    @given(st.integers(0, 24), st.integers(0, 24), st.integers(0, 24))
    @settings(max_examples=150)
    def test_inputs_in_the_same_memory(self, lasting_session: Session, at: int, y_at: int, z_at: int) -> None:
        """Whatever overlaps with what: the results are right, or it is refused."""
        memory = np.arange(32, dtype=np.float32) - 5
        x, y, z = (memory[first : first + 8].reshape(2, 4) for first in (at, y_at, z_at))
        fed = x.copy()
        session = lasting_session
        if abs(y_at - z_at) < 8:
            with pytest.raises(InputError, match="'y' and 'z' share memory"):
                session.run({"x": x}, into={"y": y, "z": z})
            return
        session.run({"x": x}, into={"y": y, "z": z})
        np.testing.assert_array_equal(y, fed.cumsum(1))
        np.testing.assert_array_equal(z, abs(fed))

    def test_a_profile_has_the_copy(self, session: Session) -> None:
        profile, x = Profile(), X.copy()
        session.run({"x": x}, into={"y": x}, profile=profile)
        told = [span.name for span in profile.spans if "copy" in span.name]
        assert told == ["copy to the caller's array for y: it shares memory with input 'x'"]
        np.testing.assert_array_equal(x, -X)

    def test_an_output_that_is_an_input(self) -> None:
        y, z = apart(2, 4), apart(2, 4)
        with Session(passed_on(), devices=["cpu"]) as session:
            bound = session.bind(inputs={"x": X}, outputs={"y": y, "z": z})
            bound.run()
            np.testing.assert_array_equal(y, X)
            np.testing.assert_array_equal(z, -X)
            assert "z" not in bound.copied

    @pytest.mark.parametrize(
        ("dtype", "array"), [("INT4", np.zeros(4, ml_dtypes.int4)), ("STRING", np.zeros(4, object))]
    )
    def test_packed_elements_and_texts(self, dtype: str, array: np.ndarray) -> None:
        kind = getattr(TensorProto, dtype)
        declared = [helper.make_tensor_value_info(n, k, [4]) for n, k in (("x", TensorProto.INT8), ("y", kind))]
        nodes = [
            helper.make_node("Cast", ["x"], ["t"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["t"], ["y"], to=kind),
        ]
        graph = helper.make_graph(nodes, "cast", declared[:1], declared[1:])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        with Session(made) as session:
            x = np.array([1, -2, 3, 0], np.int8)
            bound = session.bind(inputs={"x": x}, outputs={"y": array})
            assert bound.run()["y"] is array
            assert list(array) == list(session.run({"x": x})["y"])
            assert "computes" in bound.copied["y"]


@pytest.fixture(scope="module")
def lasting_session() -> Iterator[Session]:
    with Session(sums(), devices=["cpu"]) as found:
        yield found


class TestRefused:
    @pytest.mark.parametrize(
        ("into", "kind", "message"),
        [
            ({"w": X}, InputError, "into has 'w', which is no output of it; those are 'y', 'z'"),
            ([X], InputTypeError, "into is a mapping from output name to array, not list"),
            ({"y": [0.0]}, InputTypeError, "output 'y' is a list; give a numpy array or a DLPack tensor"),
            ({"y": X.astype(np.float64)}, InputTypeError, "output 'y' has element type float64; the output is float32"),
            ({"y": X.astype(">f4")}, InputTypeError, "has element type >f4"),
            ({"y": np.zeros((2, 3), np.float32)}, InputError, r"is float32\[2, 4\] for these inputs, and the array"),
            ({"y": np.zeros(8, np.float32)}, InputError, r"the array for it is float32\[8\]; give one that fits"),
            ({"y": np.broadcast_to(np.float32(0), (2, 4))}, InputError, "is read-only; give one that may be written"),
            (
                {"y": np.lib.stride_tricks.as_strided(np.zeros(8, np.float32), (2, 4), (8, 4))},
                InputError,
                "has elements that lie in the same memory",
            ),
        ],
    )
    def test_arrays_that_cannot_be(self, session: Session, into: Any, kind: type[MaceError], message: str) -> None:
        x = X.copy()
        with pytest.raises(kind, match=message):
            session.run({"x": x}, into=into)
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(session.run({"x": X})["y"], -X)

    def test_outputs_that_are_not_computed(self, session: Session) -> None:
        with pytest.raises(InputError, match="'y', which is not an output that this run hands out"):
            session.run({"x": X}, ["z"], into={"y": apart(2, 4)})

    def test_memory_of_the_models_constants(self) -> None:
        weights = np.ones((2, 4), np.float32)
        with Session(with_constant(weights), devices=["cpu"]) as session:
            with pytest.raises(InputError, match="output 'y' is memory of the model's constant 'w'"):
                session.run({"x": X}, into={"y": weights})
            np.testing.assert_array_equal(session.run({"x": X}, into={"y": apart(2, 4)})["y"], X + 1)
        assert (weights == 1).all()

    def test_a_device_tensor(self, session: Session) -> None:
        class Far:
            def __dlpack__(self, **_: Any) -> Any:
                raise AssertionError("nobody looks at it")

            def __dlpack_device__(self) -> tuple[int, int]:
                return 2, 0

        with pytest.raises(InputError, match="lies in the memory of a device; give one in the memory of the host"):
            session.run({"x": X}, into={"y": Far()})


class TestRunsInFlight:
    def test_the_future_has_the_callers_array(self, session: Session, written: list[int]) -> None:
        y = apart(2, 4)
        for _ in range(3):  # the array is free again once the future is done
            assert session.run_async({"x": X}, into={"y": y}).result()["y"] is y
        np.testing.assert_array_equal(y, -X)
        assert y.ctypes.data in written

    @pytest.mark.parametrize("end", ["done", "cancelled", "failed", "closed"])
    def test_an_array_belongs_to_one_run(self, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
        entered, go_on = threading.Event(), threading.Event()

        def run(execution: Execution, bindings: Bindings, device: Any) -> None:
            entered.set()
            while not go_on.wait(0.01):
                if bindings.cancel.is_set:
                    raise CancelledError("stopped")
            calls.run_execution(execution, bindings, device)

        with Session(two_outputs(), devices=["cpu"]) as session, Session(two_outputs(), devices=["cpu"]) as other:
            session.run({"x": X})
            y = np.zeros((3, 4), np.float32)
            monkeypatch.setattr(single_runs, "run_execution", run)
            x = X if end != "failed" else X[0]
            running = session.run_async({"x": X}, into={"y": y[:2]})
            assert entered.wait(30)
            for refused in (session, other):
                for ask in (refused.run, refused.run_async):
                    with pytest.raises(UsageError, match="'z' is being written by a run that is not over"):
                        ask({"x": X}, into={"z": y[1:]})
            waiting = session.run_async({"x": x}, into={"z": (z := apart(2, 4))})
            with pytest.raises(UsageError, match="being written"):
                session.run_async({"x": X}, into={"z": z})
            if end == "cancelled":
                waiting.cancel()
                running.cancel()
                assert running.exception() and waiting.exception()
            elif end == "closed":
                threading.Timer(0.05, go_on.set).start()
                session.close()
                assert isinstance(waiting.exception(), UsageError)
            go_on.set()
            if end == "failed":
                assert isinstance(waiting.exception(), InputError)
            if end in ("done", "failed"):
                assert running.result()["y"].ctypes.data == y.ctypes.data
            running.exception()
            other.run({"x": X}, into={"y": y[:2], "z": z})
            np.testing.assert_array_equal(y[:2], -X)

    def test_a_failed_run_lets_go_of_the_array(self, session: Session) -> None:
        flag, y = CancelFlag(), apart(2, 4)
        flag.set()
        with pytest.raises(CancelledError):
            session.run({"x": X}, into={"y": y}, cancel=flag)
        session.run({"x": X}, into={"y": y})
        np.testing.assert_array_equal(y, -X)


class TestBoundArrays:
    def test_runs_read_and_write_the_same_arrays(self, session: Session, written: list[int]) -> None:
        x, y, z = X.copy(), apart(2, 4), apart(2, 4)
        with session.bind(inputs={"x": x}, outputs={"y": y, "z": z}) as bound:
            for n in range(4):
                x[...] = X * n
                found = bound.run()
                assert found["y"] is y and found["z"] is z and bound.copied == {}
                np.testing.assert_array_equal(y, -X * n)
                np.testing.assert_array_equal(z, abs(X * n))
        assert written == [y.ctypes.data, z.ctypes.data] * 4

    def test_the_rest_is_fed(self, session: Session) -> None:
        y = apart(2, 4)
        with session.bind(outputs={"y": y}) as bound:
            np.testing.assert_array_equal(bound.run({"x": X})["z"], abs(X))
            with pytest.raises(InputError, match=r"input 'x'.* is missing"):
                bound.run()
        with session.bind(inputs={"x": X}) as bound, pytest.raises(InputError, match="'x' is bound to an array"):
            bound.run({"x": X})

    def test_another_shape_of_the_callers_object_changes_nothing(self, session: Session) -> None:
        x, y = X.copy(), np.zeros((2, 4), np.float32)
        with session.bind(inputs={"x": x}, outputs={"y": y}) as bound:
            x.shape, y.shape = (4, 2), (8,)
            bound.run()
        np.testing.assert_array_equal(y, -X.reshape(-1))

    def test_asynchronous_runs(self, session: Session) -> None:
        x, y = X.copy(), apart(2, 4)
        with session.bind(inputs={"x": x}, outputs={"y": y}) as bound:
            for _ in range(3):
                assert bound.run_async().result()["y"] is y

    def test_what_cannot_be_bound(self, session: Session) -> None:
        refused: list[tuple[Callable[[], object], str]] = [
            (lambda: session.bind(inputs={"w": X}), "has no input 'w' to bind; its inputs are 'x'"),
            (lambda: session.bind(inputs={"x": [1.0]}), "bound to an array whose content changes, and not to a list"),
            (lambda: session.bind(inputs={"x": X.astype(int)}), "input 'x' has element type int64"),
            (lambda: session.bind(outputs={"w": X}), "which is no output"),
            (lambda: session.bind({"x": "y"}, outputs={"y": X}), "either pairs, for state, or inputs and outputs"),  # type: ignore[call-overload]
            (lambda: session.bind(limit=3, outputs={"y": X}), "are for state; give pairs to bind"),  # type: ignore[call-overload]
        ]
        for bind, message in refused:
            with pytest.raises(MaceError, match=message):
                bind()

    def test_after_its_end(self, session: Session) -> None:
        x, y = X.copy(), apart(2, 4)
        bound = session.bind(inputs={"x": x}, outputs={"y": y})
        bound.run()
        kept = weakref.ref(x)
        bound.close()
        bound.close()
        del x
        gc.collect()
        assert kept() is None
        for call in (bound.run, bound.run_async):
            with pytest.raises(UsageError, match="the binding is closed"):
                call()
        last = session.bind(inputs={"x": X}, outputs={"y": y})
        session.close()
        for call in (last.run, last.run_async):
            with pytest.raises(UsageError, match="is closed"):
                call()
        np.testing.assert_array_equal(y, -X)

    def test_two_threads_cannot_run_it_at_once(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        entered, go_on = threading.Event(), threading.Event()

        def run(*arguments: Any) -> None:
            entered.set()
            assert go_on.wait(60)
            calls.run_execution(*arguments)

        bound = session.bind(inputs={"x": X}, outputs={"y": apart(2, 4)})
        bound.run()
        monkeypatch.setattr(single_runs, "run_execution", run)
        thread = threading.Thread(target=bound.run)
        thread.start()
        assert entered.wait(30)
        with pytest.raises(UsageError, match="being written by a run that is not over"):
            bound.run()
        go_on.set()
        thread.join()
        bound.run()


def test_state_and_arrays() -> None:
    """A binding that keeps state writes its other outputs into the caller's arrays."""
    x, h, y, following = (value(name, F32, 2, 4) for name in ("x", "h", "y", "h_out"))
    graph = model([("Add", [x, h], [following]), ("Neg", [following], [y])], [x, h], [y, following])
    with Session(graph, devices=["cpu"]) as session, session.bind({"h": "h_out"}) as binding:
        result = apart(2, 4)
        for n in range(1, 4):
            assert binding.run({"x": X}, into={"y": result})["y"] is result
            np.testing.assert_array_equal(result, -X * n)
        with pytest.raises(InputError, match="'h_out', which is not an output that this run hands out"):
            binding.run({"x": X}, ["y", "h_out"], into={"h_out": apart(2, 4)})

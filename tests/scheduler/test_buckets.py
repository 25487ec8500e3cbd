"""Devices that declare buckets: sizes are padded where that is right, tables are bounded, and explanations say it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from acme_npu.backend import AcmeBackend
from onnx import helper
from scheduler_models import constant, model, op, tensor
from scheduler_stand_ins import StandInBackend, make_provider, registry_of

from mace_core.errors import ProviderBugError
from mace_core.faults import FaultLimits
from mace_core.frontend.load import load_model
from mace_core.graph import GraphView
from mace_core.operators import registry as operators
from mace_core.operators import resolve
from mace_core.operators.independence import AxesContext, same_axes
from mace_core.provider import Buckets, Capability, Claim, CompiledSubgraph, Rejection, ShapeSupport
from mace_core.scheduler.planning.lanes import AxisClasses
from mace_core.scheduler.profile import Profile
from mace_core.session import Session
from mace_core.tensor import MemoryKind, TensorType

INTEGERS = tensor("y", None, onnx.TensorProto.INT64)
SIZES = Buckets.powers_of_two(64)


@pytest.fixture(autouse=True)
def declares_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandInBackend, "buckets", SIZES)


def rows(count: int, width: int = 4) -> np.ndarray[Any, Any]:
    return np.random.default_rng(count).uniform(-1, 1, (count, width)).astype(np.float32)


def session(whole: onnx.ModelProto, provider: Any, **arguments: Any) -> Session:
    return Session(whole, devices=[provider.name], registry=registry_of(provider), cache=False, **arguments)


WEIGHT = np.random.default_rng(0).uniform(-1, 1, (4, 6)).astype(np.float32)

NETWORK = model(
    [
        op("MatMul", ["x", "w"], ["a"]),
        op("Softmax", ["a"], ["b"], axis=-1),
        op("ReduceMax", ["b"], ["c"], axes=[1], keepdims=1),
        op("Div", ["a", "c"], ["d"]),
        op("Transpose", ["d"], ["y"]),
    ],
    [tensor("x", ["n", 4])],
    [tensor("y", None), tensor("c", None)],
    [constant("w", WEIGHT)],
    opset=17,
)


def right(x: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    product = x @ WEIGHT
    soft = np.exp(product - product.max(-1, keepdims=True))
    soft /= soft.sum(-1, keepdims=True)
    largest = soft.max(1, keepdims=True)
    return (product / largest).T, largest


def check(found: dict[str, Any], x: np.ndarray[Any, Any]) -> None:
    for name, wanted in zip(("y", "c"), right(x), strict=True):
        np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-5)


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", list(MemoryKind)[:3])
@pytest.mark.parametrize("has_queue", [True, False])
def test_sizes_of_one_bucket_are_compiled_once(memory: MemoryKind, has_queue: bool) -> None:
    provider = make_provider("odd", memory=memory, has_queue=has_queue)
    with session(NETWORK, provider, max_signatures=2) as running:
        for count in (3, 37, 5, 64, 33, 8, 3, 40, 1, 37):
            check(running.run({"x": rows(count)}), rows(count))
        (backend,) = provider.opened
        assert backend.compile_calls == 4, "buckets 4, 64, 8 and 1"
    assert backend.closed
    assert backend.compiled_alive == backend.executions == 0


def test_explanations_say_what_is_padded() -> None:
    with session(NETWORK, make_provider("odd")) as running:
        running.run({"x": rows(37)})
        found = running.explain()
        assert [part.padding for part in found.partitions] == [("padded along n: 37 -> 64 (bucket declared by odd:0)",)]
        assert "  padded along n: 37 -> 64 (bucket declared by odd:0)" in str(found).splitlines()
        running.run({"x": rows(100)})
        assert "not padded along n (100): odd:0 declares no bucket for it" in str(running.explain())


def test_too_much_padding_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandInBackend, "buckets", Buckets((10, 100), most_padding=0.5))
    provider = make_provider("odd")
    with session(NETWORK, provider) as running:
        for count in (10, 9, 5, 50, 99):
            check(running.run({"x": rows(count)}), rows(count))
        (backend,) = provider.opened
        assert backend.compile_calls == 2
        check(running.run({"x": rows(49)}), rows(49))
        assert "declares no bucket" in str(running.explain())


def test_sizes_that_no_model_declares_free_are_padded_once_they_differ() -> None:
    whole = model([op("NonZero", ["x"], ["i"]), op("Neg", ["i"], ["y"])], [tensor("x", [8])], [INTEGERS])
    provider = make_provider("odd", claims={"Neg"})
    with session(whole, provider) as running:
        for count in (3, 5, 8, 6, 7):
            x = (np.arange(8) < count).astype(np.float32)
            np.testing.assert_array_equal(running.run({"x": x})["y"], -np.arange(count)[None])
        assert "padded along axis 1 of 'i': 7 -> 8" in str(running.explain())
        assert provider.opened[0].compile_calls == 2, "3 as it is, and 8"


# --- where padding is wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([op("Softmax", ["x"], ["y"], axis=0)], "Softmax 'Softmax_y' is not known to treat its positions apart"),
        ([op("Add", ["x", "w"], ["y"])], "the weight 'w' has that size"),
        ([op("Neg", ["x"], ["a"]), op("Reshape", ["a", "to"], ["y"])], "the constant 'to' states the size"),
        ([op("Gather", ["x", "zero"], ["y"], axis=0)], "Gather 'Gather_y' is not known to treat its positions apart"),
    ],
)
def test_an_axis_that_some_node_mixes_is_not_padded(nodes: Sequence[onnx.NodeProto], words: str) -> None:
    constants = [
        constant("w", np.ones((37, 4), np.float32)),
        constant("to", np.array([37, 2, 2], np.int64)),
        constant("zero", np.array([0, -1], np.int64)),
    ]
    whole = model(list(nodes), [tensor("x", ["n", 4])], [tensor("y", None)], constants)
    provider = make_provider("odd")
    with session(whole, provider) as running, Session(whole, devices=["reference"], cache=False) as exact:
        x = rows(37)
        np.testing.assert_allclose(running.run({"x": x})["y"], exact.run({"x": x})["y"], rtol=1e-6)
        told = str(running.explain())
    assert f"not padded along n (37): {words}" in told


def test_what_a_nested_graph_captures_is_not_padded() -> None:
    """Even where a device takes the whole node: what is in the branch is looked at by nobody."""
    branch = helper.make_graph([op("ReduceMax", ["n"], ["r"], keepdims=1)], "branch", [], [tensor("r", [1, 1])])
    nodes = [
        op("Neg", ["x"], ["n"]),
        op("If", ["c"], ["m"], then_branch=branch, else_branch=branch),
        op("Add", ["n", "m"], ["y"]),
    ]
    feeds = [tensor("x", ["n", 4]), tensor("c", [], onnx.TensorProto.BOOL)]
    graph = load_model(model(nodes, feeds, [tensor("y", None)]))
    types = {value: TensorType(value.type.dtype, (3, 4) if value.name == "x" else ()) for value in graph.inputs}
    found = resolve(graph, types)
    classes = AxisClasses(graph.nodes, found.types, found.known, graph.opset_imports)
    (x, _) = graph.inputs
    assert classes.reason((x, 0)) == "If 'If_m' is not known to treat its positions apart"
    alone = AxisClasses(graph.nodes[:1], found.types, found.known, graph.opset_imports)
    assert alone.reason((x, 0)) == ""


def test_contents_that_follow_from_sizes_are_kept_or_restated() -> None:
    """A Reshape to the size is told the bucket. As a number the size stays what it is, and padding is of no use."""
    nodes = [
        op("Shape", ["x"], ["s"]),
        op("Gather", ["s", "zero"], ["n"]),
        op("Concat", ["n", "two"], ["to"], axis=0),
        op("Reshape", ["x", "to"], ["y"]),
        op("Cast", ["n"], ["f"], to=1),
        op("Mul", ["x", "f"], ["z"]),
    ]
    constants = [constant("zero", np.array([0], np.int64)), constant("two", np.array([2, 2], np.int64))]
    for claims, compiles, words in (
        ({"Reshape"}, 1, "padded along n: 40 -> 64"),
        ({"Mul"}, 3, "not padded along n (40): contents that its nodes read change with the sizes"),
    ):
        whole = model(nodes, [tensor("x", ["n", 4])], [tensor("y", None), tensor("z", None)], constants)
        provider = make_provider("odd", claims=claims)
        with session(whole, provider) as running:
            for count in (37, 50, 40):
                x = rows(count)
                found = running.run({"x": x})
                np.testing.assert_array_equal(found["y"], x.reshape(count, 2, 2))
                np.testing.assert_array_equal(found["z"], x * np.float32(count))
            assert words in str(running.explain())
            assert provider.opened[0].compile_calls == compiles


def test_padding_makes_no_values_that_were_not_there() -> None:
    """Whole numbers are divided by, and used as indices beyond an offset: a zero would be refused."""
    nodes = [
        op("Sub", ["i", "offset"], ["j"]),
        op("Gather", ["table", "j"], ["r"]),
        op("Div", ["r", "i"], ["y"]),
    ]
    constants = [constant("offset", np.array(100, np.int64)), constant("table", np.arange(700, 710))]
    whole = model(nodes, [tensor("i", ["n"], onnx.TensorProto.INT64)], [INTEGERS], constants)
    with session(whole, make_provider("odd")) as running:
        i = np.array([103, 109, 100], np.int64)
        np.testing.assert_array_equal(running.run({"i": i})["y"], np.array([703, 709, 700]) // i)
        assert "padded along n: 3 -> 4" in str(running.explain())


def test_a_rule_that_is_wrong_about_shapes_leads_to_no_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = operators.find_independent_axes("", "Concat")
    assert honest is not None
    whole = model([op("Concat", ["x", "x"], ["y"], axis=0)], [tensor("x", ["n", 4])], [tensor("y", None)])
    operators._independent.replace("", "Concat", lambda ctx: list(same_axes(ctx)))
    try:
        with session(whole, make_provider("odd")) as running:
            np.testing.assert_array_equal(running.run({"x": rows(3)})["y"], np.concatenate([rows(3)] * 2))
            assert "its shapes would not fit" in str(running.explain())
    finally:
        operators._independent.replace("", "Concat", honest)


def test_a_rule_that_is_wrong_about_values_shows() -> None:
    """The mutation that the comparison of padded with unpadded runs has to notice."""
    honest = operators.find_independent_axes("", "Softmax")
    assert honest is not None

    def wrong(ctx: AxesContext) -> Any:
        return same_axes(ctx)

    operators._independent.replace("", "Softmax", wrong)
    whole = model([op("Softmax", ["x"], ["y"], axis=0)], [tensor("x", ["n", 4])], [tensor("y", None)])
    try:
        with session(whole, make_provider("odd")) as running:
            found = running.run({"x": rows(3)})["y"]
    finally:
        operators._independent.replace("", "Softmax", honest)
    assert abs(found.sum(0) - 1).max() > 0.05


# --- the device's word ------------------------------------------------------------------------------------------------


def test_a_device_that_does_not_take_the_bucket_gets_the_size_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def capability(self: StandInBackend, view: GraphView) -> Capability:
        fits = all(view.shape(value)[0] <= 50 for value in view.inputs)
        if fits:
            return Capability([Claim(view.nodes)])
        return Capability([], [Rejection(node, "it takes 50 rows") for node in view.nodes])

    monkeypatch.setattr(StandInBackend, "capability", capability)
    provider = make_provider("odd")
    with session(NETWORK, provider) as running:
        check(running.run({"x": rows(37)}), rows(37))
        assert "odd:0 does not take 'MatMul_a' then: it takes 50 rows" in str(running.explain())
        check(running.run({"x": rows(30)}), rows(30))
        assert "padded along n: 30 -> 32" in str(running.explain())


def test_a_bucket_that_does_not_compile_is_compiled_as_the_size_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = StandInBackend.compile

    def compile_(self: StandInBackend, views: Sequence[GraphView]) -> list[CompiledSubgraph]:
        if any(view.shape(value)[0] == 64 for view in views for value in view.inputs):
            raise MemoryError("64 rows are too many")
        return honest(self, views)

    monkeypatch.setattr(StandInBackend, "compile", compile_)
    provider = make_provider("odd")
    with session(NETWORK, provider, strict=True) as running:
        check(running.run({"x": rows(37)}), rows(37))
        found = running.explain()
    assert "not padded: compile failed:" in str(found)
    assert found.nodes_per_device == {"odd:0": 5}


@pytest.mark.parametrize("given", [(1, 2, 4), 64, "powers of two"])
def test_something_else_than_buckets_is_a_defect_of_the_provider(
    monkeypatch: pytest.MonkeyPatch, given: object
) -> None:
    monkeypatch.setattr(StandInBackend, "buckets", given)
    unmoved = FaultLimits(move=False)
    with (
        session(NETWORK, make_provider("odd"), faults=unmoved) as running,
        pytest.raises(ProviderBugError, match=r"Backend\.buckets"),
    ):
        running.run({"x": rows(3)})


@pytest.mark.parametrize(
    ("sizes", "words"),
    [((), "ascending"), ((0, 1), "ascending"), ((2, 1), "ascending"), ((1, 1), "ascending"), ((1.5,), "ascending")],
)
def test_buckets_are_ascending_positive_numbers(sizes: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Buckets(sizes)
    for arguments in ({"most_padding": 1.0}, {"most_padding": -0.1}, {"most_compiled": 0}):
        with pytest.raises(ValueError, match="at least"):
            Buckets((1,), **arguments)


@pytest.mark.parametrize("support", [ShapeSupport.DYNAMIC, ShapeSupport.STATIC])
def test_devices_that_compile_nothing_for_a_shape_are_not_padded(
    monkeypatch: pytest.MonkeyPatch, support: ShapeSupport
) -> None:
    monkeypatch.setattr(StandInBackend, "shape_support", support)
    monkeypatch.setattr(StandInBackend, "compiles_per_shape", False)
    with session(NETWORK, make_provider("odd")) as running:
        running.run({"x": rows(37)})
        assert [part.padding for part in running.explain().partitions] == [()]


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_thousand_sizes_compile_as_many_programs_as_there_are_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandInBackend, "buckets", Buckets.powers_of_two(1024))
    provider = make_provider("odd", memory=MemoryKind.DEVICE)
    sizes = np.random.default_rng(0).permutation(np.arange(1, 1001)).tolist()
    whole = model([op("Neg", ["x"], ["y"])], [tensor("x", ["n", 4])], [tensor("y", None)])
    with session(whole, provider, max_signatures=4) as running:
        for count in sizes:
            x = rows(count)
            np.testing.assert_array_equal(running.run({"x": x})["y"], -x)
            (backend,) = provider.opened
            assert backend.executions <= 4
            assert backend.device_memory.alive <= 4
        assert backend.compile_calls == backend.compiled_alive == 11
    assert backend.compiled_alive == backend.executions == backend.device_memory.alive == 0


@pytest.mark.parametrize("buckets", [Buckets.powers_of_two(64, most_compiled=2), None])
def test_what_was_compiled_and_is_not_used_is_closed_when_there_is_too_much(
    monkeypatch: pytest.MonkeyPatch, buckets: Buckets | None
) -> None:
    """Without buckets as well: a plan that is dropped closes what was compiled for it."""
    monkeypatch.setattr(StandInBackend, "buckets", buckets)
    provider = make_provider("odd")
    with session(NETWORK, provider, max_signatures=1) as running:
        for count in (1, 2, 3, 6, 12, 30, 64, 1, 2, 7):
            check(running.run({"x": rows(count)}), rows(count))
            assert provider.opened[0].compiled_alive <= 2
            assert provider.opened[0].executions <= 2


def test_threads_with_sizes_of_their_own_get_their_own_results() -> None:
    provider = make_provider("odd", memory=MemoryKind.DEVICE)
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for count in np.random.default_rng(seed).integers(1, 65, 40).tolist():
                check(running.run({"x": rows(count)}), rows(count))
        except BaseException as error:
            errors.append(error)

    with session(NETWORK, provider, max_signatures=2) as running:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert provider.opened[0].compile_calls <= 7
    assert provider.opened[0].compiled_alive == provider.opened[0].executions == 0


def test_a_lost_device_frees_its_programs() -> None:
    from mace_core.errors import DeviceLostError

    provider = make_provider("odd", faults=[None, DeviceLostError("gone", device="odd:0")])
    with session(NETWORK, provider) as running:
        running.run({"x": rows(3)})
        running.run({"x": rows(4)})
        assert provider.opened[0].compiled_alive == 0


# --- stored forms, bodies, checks -------------------------------------------------------------------------------------


def test_a_later_session_finds_what_was_compiled_for_another_size_of_the_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    onnx.save(NETWORK, tmp_path / "network.onnx")
    calls: list[int] = []
    honest = AcmeBackend.compile

    def compile_(self: AcmeBackend, views: Sequence[GraphView]) -> list[CompiledSubgraph]:
        calls.append(len(views))
        return honest(self, views)

    monkeypatch.setattr(AcmeBackend, "compile", compile_)
    for counts in ((37,), (50, 37), (40, 64)):
        with Session(
            tmp_path / "network.onnx", devices=["acme:sim0"], options={"acme": {"largest_bucket": 64}}
        ) as running:
            for count in counts:
                check(running.run({"x": rows(count)}), rows(count))
                assert "padded along n" in str(running.explain())
        assert calls == [2], "the two pieces, in one call, once"


def test_other_options_are_other_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered of a session with buckets is not taken by one without."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    onnx.save(NETWORK, tmp_path / "network.onnx")
    for largest, padding in ((64, True), (0, False), (16, False), (64, True)):
        options = {"acme": {"largest_bucket": largest}}
        with Session(tmp_path / "network.onnx", devices=["acme:sim0"], options=options) as running:
            check(running.run({"x": rows(37)}), rows(37))
            assert ("37 -> 64" in str(running.explain())) is padding


def test_the_body_of_a_loop_is_padded_as_its_sizes_change() -> None:
    body = helper.make_graph(
        [
            op("Identity", ["go"], ["on"]),
            op("Concat", ["v", "row"], ["longer"], axis=0),
            op("Tanh", ["longer"], ["next"]),
        ],
        "body",
        [tensor("i", [], onnx.TensorProto.INT64), tensor("go", [], onnx.TensorProto.BOOL), tensor("v", [None, 4])],
        [tensor("on", [], onnx.TensorProto.BOOL), tensor("next", [None, 4])],
    )
    feeds = [tensor("turns", [], onnx.TensorProto.INT64), tensor("x", ["k", 4]), tensor("row", [1, 4])]
    whole = model([op("Loop", ["turns", "", "x"], ["y"], body=body)], feeds, [tensor("y", None)])
    provider = make_provider("odd", claims={"Tanh"})
    x, row = rows(3), rows(1)
    wanted = x
    for _ in range(12):
        wanted = np.tanh(np.concatenate([wanted, row]))
    with session(whole, provider) as running:
        found = running.run({"turns": np.array(12), "x": x, "row": row})["y"]
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
        assert provider.opened[0].compile_calls <= 4, "4, 8 and 16, and one before the size was seen to change"


def test_every_result_is_looked_at_as_it_is_when_numbers_are_checked() -> None:
    with session(NETWORK, make_provider("odd"), check_numerics=True) as running:
        check(running.run({"x": rows(37)}), rows(37))
        assert all(part.padding == () for part in running.explain().partitions)


def test_profiles_name_what_is_padded_and_cut() -> None:
    found = Profile()
    with session(NETWORK, make_provider("odd", memory=MemoryKind.DEVICE)) as running:
        check(running.run({"x": rows(37)}, profile=found), rows(37))
    names = [span.name for span in found.spans]
    assert [name for name in names if name.startswith(("padding", "cutting"))] == [
        "padding of x",
        "cutting of y",
        "cutting of c",
    ]


@pytest.mark.parametrize("largest", [0, 2048])
@pytest.mark.parametrize("count", [150, pytest.param(10_000, marks=pytest.mark.full)])
def test_random_sizes_leave_memory_and_descriptors_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int, count: int
) -> None:
    """With buckets, and with a program for each size: tables are bounded, and each result is that of its size alone."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    rng = np.random.default_rng(count)
    options = {"acme": {"largest_bucket": largest}}
    with Session(NETWORK, devices=["acme:sim0"], options=options, max_signatures=4) as running:
        device = next(device for device in running._pool.devices if device.name == "acme:sim0")
        used: list[tuple[int, int]] = []
        for number in rng.integers(1, 2001, count).tolist():
            check(running.run({"x": rows(number)}), rows(number))
            used.append((device.backend.memory.used_bytes, psutil.Process().num_fds()))
        held, descriptors = zip(*used, strict=True)
        largest_run = 4 * 2048 * (4 + 6 + 6 + 6 + 1 + 6) * 2
        assert max(held) <= 4 * largest_run
        assert max(descriptors[count // 3 :]) <= max(descriptors[: count // 3])

"""Operators in forms that the conformance kit does not have, against the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mace_core.errors import ProviderError, UnsupportedError
from mace_core.graph import Graph, Node, Value
from mace_core.provider import Device
from mace_core.tensor import Tensor, TensorType
from mace_core.tensor.dtype import DType
from mace_core.testing.cases import Case, to_attribute
from mace_core.testing.conformance import assert_agrees, reference
from mace_core.testing.runner import run_once, view_of

Array = npt.NDArray[Any]

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def backend(device: Device) -> Iterator[Any]:
    from mace_opencl.provider import OpenClProvider

    opened = OpenClProvider().open(device, {})
    yield opened
    opened.close()


def f(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def i(*values: int) -> Array:
    return np.array(values, np.int64)


C, CC = frozenset({1}), frozenset({1, 2})
IMAGE = f(2, 8, 13, 11, seed=1)

CASES = [
    Case("product of 64x64 tiles", "MatMul", [f(130, 200), f(200, 150, seed=1)]),
    Case("product of one row", "MatMul", [f(1, 70), f(70, 33, seed=1)]),
    Case("product of one column", "MatMul", [f(70, 33), f(33, seed=1)]),
    Case("product of a vector and a stack", "MatMul", [f(5), f(3, 5, 4, seed=1)]),
    Case("product of stacks broadcast both ways", "MatMul", [f(2, 1, 3, 4), f(1, 5, 4, 6, seed=1)]),
    Case("product of a stack with one matrix", "MatMul", [f(2, 3, 5, 7), f(1, 7, 9, seed=1)]),
    Case("Gemm with a scalar", "Gemm", [f(3, 4), f(4, 5), np.float32(2)], CC, {"beta": 0.5}),
    Case("Gemm with a column", "Gemm", [f(4, 3), f(4, 5), f(3, 1)], CC, {"transA": 1}),
    Case("convolution in four groups of many", "Conv", [IMAGE, f(16, 4, 3, 3), f(16)], CC, {"group": 2}),
    Case(
        "convolution in groups, tiled", "Conv", [IMAGE, f(24, 2, 3, 3), f(24)], CC, {"group": 4, "pads": [1, 1, 1, 1]}
    ),
    Case("depthwise with two filters each", "Conv", [IMAGE, f(16, 1, 3, 3)], C, {"group": 8, "strides": [2, 1]}),
    Case(
        "depthwise 5x5 dilated",
        "Conv",
        [IMAGE, f(8, 1, 5, 5)],
        C,
        {"group": 8, "dilations": [2, 1], "pads": [4, 2, 4, 2]},
    ),
    Case("1x1 with strides", "Conv", [IMAGE, f(20, 8, 1, 1)], C, {"strides": [2, 3]}),
    Case("1x1 with padding", "Conv", [IMAGE, f(20, 8, 1, 1)], C, {"pads": [1, 0, 0, 2]}),
    Case(
        "rectangular window, same lower",
        "Conv",
        [IMAGE, f(5, 8, 2, 4)],
        C,
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    ),
    Case("one-dimensional, strided, grouped", "Conv", [f(2, 6, 30), f(8, 3, 4)], C, {"group": 2, "strides": [3]}),
    Case("transposed in groups", "ConvTranspose", [IMAGE, f(8, 3, 3, 2)], C, {"group": 2, "strides": [2, 3]}),
    Case(
        "transposed, dilated", "ConvTranspose", [IMAGE, f(8, 5, 3, 3)], C, {"dilations": [2, 2], "pads": [1, 0, 2, 1]}
    ),
    Case(
        "transposed to a given size",
        "ConvTranspose",
        [IMAGE, f(8, 5, 3, 3)],
        C,
        {"strides": [2, 2], "output_shape": [27, 22]},
    ),
    Case("transposed, one-dimensional", "ConvTranspose", [f(1, 4, 9), f(4, 2, 4)], C, {"strides": [2]}),
    Case("maximum over a dilated window", "MaxPool", [IMAGE], attributes={"kernel_shape": [2, 3], "dilations": [2, 2]}),
    Case(
        "maximum, same upper",
        "MaxPool",
        [IMAGE],
        attributes={"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ),
    Case(
        "average, ceil",
        "AveragePool",
        [IMAGE],
        attributes={"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 0, 0]},
    ),
    Case("average of one dimension", "AveragePool", [f(1, 2, 9)], attributes={"kernel_shape": [4], "strides": [2]}),
    Case("sum over a long row", "ReduceSum", [f(3, 1000), i(1)], C),
    Case("L2 over the middle", "ReduceL2", [f(3, 40, 5), i(1)], C, {"keepdims": 0}),
    Case("smallest over outer axes", "ReduceMin", [f(6, 4, 7, 3), i(0, 2)], C),
    Case("product over the last", "ReduceProd", [f(4, 5), i(-1)], C),
    Case("softmax of a long row", "Softmax", [30 * f(2, 500)]),
    Case("layer normalization over two axes", "LayerNormalization", [f(3, 4, 50), f(4, 50), f(4, 50)], CC, {"axis": 1}),
    Case("layer normalization without a shift", "LayerNormalization", [f(3, 70), f(70)], C),
    Case(
        "transpose of bytes",
        "Transpose",
        [np.arange(24, dtype=np.uint8).reshape(2, 3, 4)],
        attributes={"perm": [2, 0, 1]},
    ),
    Case("transpose that moves only ones", "Transpose", [f(1, 3, 1, 4)], attributes={"perm": [1, 0, 2, 3]}),
    Case("concatenation with an empty part", "Concat", [f(2, 3), f(2, 0), f(2, 1)], attributes={"axis": 1}),
    Case(
        "integers in slices",
        "Slice",
        [np.arange(60, dtype=np.int64).reshape(3, 4, 5), i(0, -1), i(3, -6), i(0, 2), i(2, -1)],
        frozenset({1, 2, 3, 4}),
    ),
    Case("half of a split", "Split", [f(5, 7)], attributes={"axis": 1, "num_outputs": 2}, output_count=2),
    Case("gathering rows by a matrix", "Gather", [f(6, 5), np.array([[0, -1], [3, 3]], np.int32)], C),
    Case("padding edges", "Pad", [f(3, 4), i(1, 2, 0, 3)], C, {"mode": "edge"}),
    Case("padding by going round", "Pad", [f(3, 4), i(1, 2, 0, 3)], C, {"mode": "wrap"}),
    Case(
        "padding one axis, negative",
        "Pad",
        [np.arange(12, dtype=np.int64).reshape(3, 4), i(-1, 2), np.int64(9), i(1)],
        frozenset({1, 2, 3}),
    ),
    Case("reflecting far", "Pad", [f(4), i(3, 3)], C, {"mode": "reflect"}),
    *(
        Case(
            f"linear, {mode}",
            "Resize",
            [f(1, 2, 5, 6), f(0), f(0), i(1, 2, 8, 9)],
            frozenset({1, 2, 3}),
            {"mode": "linear", "coordinate_transformation_mode": mode},
        )
        for mode in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
    ),
    Case(
        "linear, aligned corners of a length of 2.4",
        "Resize",
        [f(1, 1, 2, 4), f(0), np.array([1, 1, 0.6, 0.6], np.float32)],
        CC,
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ),
    Case("a slice of nothing", "Slice", [f(2, 3), i(1), i(1), i(1)], frozenset({1, 2, 3})),
    *(
        Case(
            f"nearest, {rounding}",
            "Resize",
            [f(1, 2, 5, 6), f(0), np.array([1, 1, 1.7, 0.6], np.float32)],
            CC,
            {"mode": "nearest", "nearest_mode": rounding},
        )
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ),
    Case("the largest of three", "Max", [f(3, 4), f(4, seed=1), f(3, 1, seed=2)]),
    Case("NaN goes through Max", "Max", [np.array([np.nan, 1, 2], np.float32), np.array([0, np.nan, 3], np.float32)]),
    Case(
        "NaN goes through Relu and Clip",
        "Clip",
        [np.array([np.nan, -9, 9], np.float32), np.float32(-1), np.float32(1)],
        CC,
    ),
    Case("broadcast over five axes", "Add", [f(2, 1, 3, 1, 4), f(1, 5, 1, 2, 4, seed=1)]),
    Case("integer comparison", "LessOrEqual", [np.arange(6, dtype=np.int64), np.full(6, 3, np.int64)]),
    Case("crop to depth", "SpaceToDepth", [f(1, 2, 4, 6)], attributes={"blocksize": 2}),
    Case(
        "quantizing halves and far numbers",
        "QuantizeLinear",
        [np.array([0.25, 0.75, 1.25, -0.25, 1e9, -1e9], np.float32), np.float32(0.5), np.uint8(3)],
        CC,
    ),
    Case("quantizing rows", "QuantizeLinear", [3 * f(4, 5), np.abs(f(5)) / 9, np.int8([1, -2, 127, -128, 0])], CC),
    Case("quantizing to 16 bits", "QuantizeLinear", [f(3, 5), np.float32(1e-4), np.uint16(32768)], CC, {"axis": 0}),
    Case(
        "dequantizing channels with scales that the run computes",
        "DequantizeLinear",
        [np.arange(-60, 60, dtype=np.int8).reshape(2, 3, 4, 5), np.abs(f(3)), np.int8([0, 9, -9])],
        attributes={"axis": 1},
    ),
    Case("dequantizing sums", "DequantizeLinear", [np.array([7, -(10**6)], np.int32), np.float32(0.01)], CC),
    Case("depth to space, column first", "DepthToSpace", [f(1, 8, 2, 3)], attributes={"blocksize": 2, "mode": "CRD"}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_results_agree_with_the_reference(backend: Any, case: Case) -> None:
    check(backend, case.graph(), case.feeds())


def check(backend: Any, graph: Graph, feeds: dict[str, Array], launches: int | None = None) -> None:
    view = view_of(graph, feeds)
    reasons = [rejection.reason for rejection in backend.capability(view).rejections]
    assert not reasons
    (compiled,) = backend.compile([view])
    try:
        found = run_once(backend, view, compiled, feeds)
    finally:
        compiled.close()
    for name, array in expectation(graph, feeds).items():
        assert_agrees(found[name], array, TOLERANCE, name)
    if launches is not None:
        assert len(compiled.program.launches) == launches


def expectation(graph: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    """What the reference computes or, where that cannot, onnxruntime."""
    try:
        return reference(graph, feeds)
    except ProviderError:
        runtime = pytest.importorskip("onnxruntime", reason="neither onnx.reference nor onnxruntime computes this here")
        from mace_core.frontend.onnx.export import to_onnx

        model = to_onnx(graph, view_types(graph, feeds)).SerializeToString()
        session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
        return dict(zip((o.name for o in session.get_outputs()), session.run(None, feeds), strict=True))


def view_types(graph: Graph, feeds: dict[str, Array]) -> dict[Value, Any]:
    view = view_of(graph, feeds)
    values = [*graph.inputs, *(value for node in graph.nodes for value in node.outputs if value is not None)]
    return {value: view.type(value) for value in values}


class Chain:
    """Builds a graph node by node."""

    def __init__(self, **inputs: Array) -> None:
        self.graph = Graph("chain")
        self.graph.opset_imports = {"": 21}
        self.feeds = inputs
        self.values = {
            name: Value(name, TensorType(DType.from_numpy(array.dtype), array.shape)) for name, array in inputs.items()
        }
        self.graph.inputs = list(self.values.values())

    def add(self, name: str, op: str, *inputs: str | Array, **attributes: Any) -> None:
        operands = []
        for number, item in enumerate(inputs):
            if isinstance(item, str):
                operands.append(self.values[item])
                continue
            value = Value(f"{name}_{number}", None, Tensor.from_numpy(item))
            self.graph.initializers[value.name] = value
            operands.append(value)
        result = self.values[name] = Value(name)
        given = {key: to_attribute(value) for key, value in attributes.items()}
        self.graph.nodes.append(Node(op, operands, [result], name=name, attributes=given))

    def outputs(self, *names: str) -> Graph:
        self.graph.outputs = [self.values[name] for name in names]
        return self.graph


def test_bias_normalization_activation_and_residual_ride_on_a_convolution(backend: Any) -> None:
    chain = Chain(x=IMAGE, skip=f(2, 12, 13, 11, seed=3), gate=f(2, 12, 1, 1, seed=4))
    chain.add("conv", "Conv", "x", f(12, 8, 3, 3, seed=5), f(12, seed=6), pads=[1, 1, 1, 1])
    chain.add("norm", "BatchNormalization", "conv", f(12), f(12), f(12), np.abs(f(12)) + np.float32(0.5))
    chain.add("soft", "HardSigmoid", "norm")
    chain.add("swish", "Mul", "norm", "soft")
    chain.add("gated", "Mul", "swish", "gate")
    chain.add("y", "Add", "gated", "skip")
    check(backend, chain.outputs("y"), chain.feeds, launches=1)


def test_an_epilogue_counts_channels_of_all_groups(backend: Any) -> None:
    chain = Chain(x=IMAGE)
    chain.add("conv", "Conv", "x", f(24, 4, 3, 3, seed=5), f(24, seed=6), group=2)
    chain.add("y", "PRelu", "conv", f(24, 1, 1, seed=7))
    check(backend, chain.outputs("y"), chain.feeds, launches=1)


def test_a_result_needed_twice_is_stored_before_it_is_changed(backend: Any) -> None:
    chain = Chain(x=IMAGE)
    chain.add("conv", "Conv", "x", f(12, 8, 1, 1, seed=5))
    chain.add("y", "Relu", "conv")
    check(backend, chain.outputs("conv", "y"), chain.feeds, launches=2)


def test_a_row_and_a_matrix_ride_on_a_product(backend: Any) -> None:
    chain = Chain(x=f(2, 3, 5, 7), skip=f(2, 3, 5, 9, seed=1))
    chain.add("product", "MatMul", "x", f(7, 9, seed=2))
    chain.add("biased", "Add", "product", f(9, seed=3))
    chain.add("gelu", "Gelu", "biased")
    chain.add("y", "Add", "gelu", "skip")
    check(backend, chain.outputs("y"), chain.feeds, launches=1)


OF_ANY_NUMBER = (
    *("Relu", "Sigmoid", "Tanh", "Exp", "Neg", "Abs", "Floor", "Ceil", "Erf", "LeakyRelu", "Elu", "HardSigmoid"),
    *("HardSwish", "Softplus", "Softsign", "Sin", "Cos", "Round", "Sign", "Gelu", "Identity"),
)


def test_functions_of_a_number_add_up(backend: Any) -> None:
    """All of them in one kernel, which takes a tenth of the time of one for each; a wrong one changes the sum."""
    chain = Chain(x=f(3, 17), positive=np.abs(f(3, 17, seed=1)) + np.float32(0.5))
    inputs = {**dict.fromkeys(OF_ANY_NUMBER, "x"), "Sqrt": "positive", "Log": "positive", "Reciprocal": "positive"}
    total = "x"
    for number, (op, given) in enumerate(inputs.items()):
        chain.add(op, op, given)
        chain.add(f"weighted {op}", "Mul", op, np.float32(1 + number / 8))
        chain.add(f"with {op}", "Add", total, f"weighted {op}")
        total = f"with {op}"
    for number, op in enumerate(("Max", "Min", "Sub", "Div", "Mul", "Pow")):
        chain.add(op, op, "positive", f(3, 17, seed=number + 2))
        chain.add(f"with {op}", "Add", total, op)
        total = f"with {op}"
    chain.add("clipped", "Clip", "x", np.float32(-0.5), np.float32(0.5))
    check(backend, chain.outputs(total, "clipped"), chain.feeds)


def test_what_does_not_fit_rows_and_columns_is_a_kernel_of_its_own(backend: Any) -> None:
    chain = Chain(x=IMAGE)
    chain.add("conv", "Conv", "x", f(12, 8, 1, 1, seed=5))
    chain.add("y", "Add", "conv", f(13, 1, seed=3))  # along the height alone
    check(backend, chain.outputs("y"), chain.feeds, launches=2)


def test_two_convolutions_meet_in_one_sum(backend: Any) -> None:
    chain = Chain(x=IMAGE)
    chain.add("left", "Conv", "x", f(12, 8, 1, 1, seed=5))
    chain.add("right", "Conv", "x", f(12, 8, 3, 3, seed=6), pads=[1, 1, 1, 1])
    chain.add("y", "Add", "left", "right")
    check(backend, chain.outputs("y"), chain.feeds, launches=2)


def test_views_of_inputs_constants_and_results_come_out_right(backend: Any) -> None:
    chain = Chain(x=f(2, 6))
    chain.add("same", "Reshape", "x", i(3, 4))
    chain.add("twice", "Add", "same", "same")
    chain.add("flat", "Flatten", "twice", axis=0)
    chain.add("again", "Reshape", "flat", i(12))
    check(backend, chain.outputs("same", "flat", "again"), chain.feeds)


def test_more_work_groups_than_gpus_launch_is_a_refusal_not_a_wrong_result(backend: Any) -> None:
    case = Case("many", "MatMul", [np.zeros((70000, 1, 2), np.float32), np.zeros((70000, 2, 1), np.float32)])
    with pytest.raises(UnsupportedError, match=r"'many' .* 70000 work-groups"):
        backend.compile([view_of(case.graph(), case.feeds())])


def test_kernels_compile_the_way_gpus_get_them(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    from mace_opencl import backend as module
    from mace_opencl.provider import OpenClProvider

    usual = module._build_options
    monkeypatch.setattr(module, "_build_options", lambda one: [*usual(one), "-DUNROLL_LOOPS"])
    opened = OpenClProvider().open(device, {})
    chain = Chain(x=IMAGE)
    chain.add("a", "Conv", "x", f(12, 8, 3, 3, seed=5))
    chain.add("y", "Conv", "a", f(12, 1, 3, 3, seed=5), group=12)
    check(opened, chain.outputs("y"), chain.feeds, launches=2)
    opened.close()


def test_values_that_are_alive_together_do_not_share_the_workspace(backend: Any) -> None:
    chain = Chain(x=f(4, 64))
    names = []
    for number in range(6):
        name = f"s{number}"
        chain.add(name, "Softmax", names[-1] if names else "x")
        names.append(name)
    chain.add("y", "Concat", *names, axis=0)
    check(backend, chain.outputs("y"), chain.feeds)


def test_softmax_before_opset_13_takes_all_axes_from_the_first_named(backend: Any) -> None:
    chain = Chain(x=f(2, 3, 4))
    chain.add("y", "Softmax", "x", axis=1)
    chain.graph.opset_imports = {"": 11}
    check(backend, chain.outputs("y"), chain.feeds)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case("doubles", "Add", [np.ones(3), np.ones(3)]), "float64"),
        (Case("integer division", "Div", [i(4, 6), i(2, 3)]), "int64"),
        (Case("three dimensions", "Conv", [f(1, 1, 4, 4, 4), f(1, 1, 2, 2, 2)], C), "3 spatial dimensions"),
        (
            Case("cubic", "Resize", [f(1, 1, 4, 4), f(0), np.array([1, 1, 2, 2], np.float32)], CC, {"mode": "cubic"}),
            "cubic",
        ),
        (
            Case("indices of maxima", "MaxPool", [IMAGE], attributes={"kernel_shape": [2, 2]}, output_count=2),
            "not computed",
        ),
        (Case("indices at run time", "Gather", [f(3, 4), i(0, 1)]), "computed during the run"),
        (Case("unknown", "Det", [f(3, 3)]), "no kernel for Det"),
        (Case("product with a depth of nothing", "MatMul", [f(3, 0), f(0, 4)]), "no kernel multiplies empty matrices"),
    ],
    ids=lambda item: item.name if isinstance(item, Case) else "",
)
def test_what_is_declined_has_a_reason(backend: Any, case: Case, reason: str) -> None:
    capability = backend.capability(view_of(case.graph(), case.feeds()))
    assert not capability.claims
    assert reason in capability.rejections[0].reason

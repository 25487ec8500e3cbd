"""Runs nodes on the cpu backend alone and compares them with onnx.reference or onnxruntime.

Every run starts from memory full of garbage (NaN for floats) between pages that nobody may touch, checks that inputs
are left as they were, and is done twice over the same execution, from the stored form, and with scratch buffers and
constants next to such pages, too.  A kernel that reads or writes outside ends the process, which says of what.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from mace_cpu.backend import CpuBackend
from mace_cpu.memory_checks.guarded import guarded_buffers
from mace_cpu.plan.assembly import ALIGNMENT_BYTES
from mace_cpu.plan.subgraph import CpuSubgraph
from mace_cpu.shared.parts.buffers import Layout
from mace_cpu.shared.precision import choose_byte_tiles, choose_instructions
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.quads import QuadUnit
from mace_cpu.shared.registry import lowers
from mace_cpu.workers import Workers
from onnx import helper, numpy_helper

from mace_core.errors import UsageError
from mace_core.graph import Attribute, AttributeKind, Graph, GraphView, Node, Value
from mace_core.provider import Bindings, BoundTensor, Buffer, Device, DeviceKind, Execution
from mace_core.tensor import DType, MemoryKind, Tensor, TensorType, ValueType
from mace_core.testing.guard_pages import GuardedMemory, Side

Array = npt.NDArray[Any]

TEST_DOMAIN = "mace.test"


def is_here(features: str | None) -> bool:
    """Whether this processor has an instruction set, as the option ``features`` names it."""
    try:
        target, _ = choose_instructions(features, "float32")
        choose_byte_tiles(features, target)
    except UsageError:
        return False
    return True


def here(*features: str | None) -> list[str | None]:
    """Those of these instruction sets that this processor has; None, "" and "host" are all that it has."""
    return [each for each in features if each in (None, "", "host") or is_here(each)]


def _bytes_key(features: str | None) -> tuple[int, QuadUnit, QuadUnit | None]:
    """By what bytes are multiplied."""
    target, _ = choose_instructions(features, "float32")
    return target.vector_bits, QuadUnit.of(target), choose_byte_tiles(features, target)


FEATURES = tuple(here(None, "avx2", "baseline"))
BYTE_FEATURES_ANYWHERE = (
    *(None, "avx512vnni+int8-amx-emulated", "avx512vnni", "avx512", "avxvnni", "avx2", "sse4"),
    *("dotprod", "baseline"),
)
"""Every instruction set for which kernels of bytes have code of their own; None is the whole processor."""

BYTE_FEATURES = tuple(
    features
    for features in BYTE_FEATURES_ANYWHERE
    if is_here(features) and (features is None or _bytes_key(features) != _bytes_key(None))
)
"""Those of this processor, each way of multiplying once."""

DEFAULT_TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-11}


@dataclass(frozen=True)
class Ran:
    """What a run gave: outputs by name, the names of the plan's steps (to see what was fused) and kernels, and the
    memory that it needed in between."""

    outputs: dict[str, Array]
    steps: tuple[str, ...]
    kernels: tuple[str, ...] = ()
    workspace_bytes: int = 0


def check_node(
    op: str,
    inputs: Mapping[str, Array | None] | Sequence[Array | None],
    attributes: Mapping[str, Any] | None = None,
    opset: int = 21,
    outputs: int | Sequence[bool] = 1,
    *,
    domain: str = "",
    **how: Any,
) -> Ran:
    """Run one node and compare.

    Args:
        inputs: arrays by name, or in order (then named x0, x1, ...); None leaves an optional input out.
        outputs: how many, or which are asked for: (True, False, True).
        how: the keyword arguments of `check_nodes`.
    """
    if not isinstance(inputs, Mapping):
        inputs = {f"x{i}": array for i, array in enumerate(inputs)}
    wanted = [True] * outputs if isinstance(outputs, int) else list(outputs)
    names = [f"y{i}" if asked else "" for i, asked in enumerate(wanted)]
    given = {name: array for name, array in inputs.items() if array is not None}
    node = helper.make_node(
        op, [name if array is not None else "" for name, array in inputs.items()], names, domain=domain, name="node"
    )
    node.attribute.extend(make_attribute(key, value) for key, value in (attributes or {}).items())
    return check_nodes([node], given, [name for name in names if name], opset, **how)


def check_nodes(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    opset: int = 21,
    *,
    constants: Sequence[str] = (),
    blocked: Sequence[str] = (),
    features: str | None = None,
    threads: int = 1,
    tol: float | None = None,
    oracle: str | Callable[[onnx.ModelProto, dict[str, Array]], Sequence[Array]] = "reference",
    expected: Sequence[Array] | None = None,
) -> Ran:
    """Run several nodes as one subgraph (fusions, layouts) and compare.

    Args:
        constants: names of inputs to be initializers instead of fed.
        blocked: names of float32 inputs to arrive in the BLOCKED layout, spare lanes NaN.
        features: instruction set, see `FEATURES`; with a unit at the end ("+bf16-…", "+fp16-…"),
            the precision is that of the unit.
        tol: largest difference, relative to the element and to the largest expected element.
        oracle: "reference", "onnxruntime", or a function of (model, feeds).
        expected: the right outputs, where no oracle knows them.
    """
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    everything = [name for node in nodes for name in node.output if name]
    model = make_model(nodes, arrays, everything, opset, constants)
    feeds = {name: array for name, array in arrays.items() if name not in constants}
    if expected is None:
        found = dict(zip(everything, _ask(oracle, model, feeds), strict=True))
    elif len(nodes) == 1:
        found = dict(zip(everything, (np.asarray(e) for e in expected), strict=True))
    else:
        found = dict(zip(everything, _ask(oracle, model, feeds), strict=True))
        found.update(zip(outputs, (np.asarray(e) for e in expected), strict=True))
    view = make_view(model, arrays, found, outputs, blocked)
    ran = run_view(view, feeds, features=features, threads=threads)
    for name in outputs:
        assert_close(ran.outputs[name], np.asarray(found[name]), tol, name)
    return ran


def rejection(
    op: str,
    inputs: Sequence[Array | None],
    expected: Sequence[Array],
    attributes: Mapping[str, Any] | None = None,
    opset: int = 21,
    *,
    constants: Sequence[str] = (),
    domain: str = "",
) -> str:
    """Why the backend declines the node; "" where it claims it."""
    arrays = {f"x{i}": np.asarray(array) for i, array in enumerate(inputs) if array is not None}
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(inputs)]
    results = {f"y{i}": np.asarray(array) for i, array in enumerate(expected)}
    node = helper.make_node(op, names, list(results), domain=domain, name="node")
    node.attribute.extend(make_attribute(key, value) for key, value in (attributes or {}).items())
    view = make_view(make_model([node], arrays, list(results), opset, constants), arrays, results, list(results))
    return "".join(r.reason for r in _backend(None, 1).capability(view).rejections)


def sample(shape: Sequence[int], dtype: str = "float32") -> Array:
    """Distinct values of both signs where the type has them, so that a misplaced element shows."""
    count = np.arange(int(np.prod(shape, dtype=np.int64)))
    found: Array = count % 3 == 0 if dtype == "bool" else (count - count.size // 3).astype(dtype)
    return found.reshape(tuple(shape))


# --- building ---------------------------------------------------------------------------------------------------------


def make_attribute(name: str, value: Any) -> onnx.AttributeProto:
    """An attribute; arrays become tensors, empty lists INTS."""
    if isinstance(value, np.ndarray):
        return helper.make_attribute(name, numpy_helper.from_array(value))
    if isinstance(value, (list, tuple)) and not value:
        return helper.make_attribute(name, [], attr_type=onnx.AttributeProto.INTS)
    return helper.make_attribute(name, value)


def make_model(
    nodes: Sequence[onnx.NodeProto],
    arrays: Mapping[str, Array],
    outputs: Sequence[str],
    opset: int,
    constants: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model of these nodes that returns every value named in ``outputs``."""

    def info(name: str, array: Array) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, DType.from_numpy(array.dtype).value, array.shape)

    graph = helper.make_graph(
        list(nodes),
        "test",
        [info(name, array) for name, array in arrays.items() if name not in constants],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(arrays[name], name) for name in constants],
    )
    domains = {node.domain for node in nodes} - {"", "ai.onnx"}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in sorted(domains))]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def make_view(
    model: onnx.ModelProto,
    arrays: Mapping[str, Array],
    results: Mapping[str, Array],
    outputs: Sequence[str],
    blocked: Sequence[str] = (),
) -> GraphView:
    """The model as our graph, types taken from the arrays of all its values."""
    types: dict[Value, ValueType] = {}
    values: dict[str, Value] = {}

    def value(name: str) -> Value | None:
        if not name:
            return None
        if name not in values:
            array = np.asarray(arrays[name] if name in arrays else results[name])
            kind = TensorType(DType.from_numpy(array.dtype), array.shape)
            values[name] = Value(name, kind)
            types[values[name]] = kind
        return values[name]

    graph = Graph("test")
    graph.opset_imports = {i.domain: i.version for i in model.opset_import}
    for tensor in model.graph.initializer:
        found = value(tensor.name)
        assert found is not None
        found.constant = Tensor.from_numpy(arrays[tensor.name])
        graph.initializers[tensor.name] = found
    graph.inputs = [v for v in (value(i.name) for i in model.graph.input) if v is not None]
    stand_ins: dict[str, Value] = {}
    for name in blocked:
        source = value(name)
        assert source is not None
        stand_ins[name] = Value(f"{name}/blocked", source.type)
        types[stand_ins[name]] = types[source]
        graph.nodes.append(Node("Block", [source], [stand_ins[name]], name=f"block {name}", domain=TEST_DOMAIN))
    for proto in model.graph.node:
        attributes = {a.name: _attribute(a) for a in proto.attribute}
        node_inputs = [stand_ins.get(name) or value(name) for name in proto.input]
        node_outputs = [value(name) for name in proto.output]
        graph.nodes.append(
            Node(proto.op_type, node_inputs, node_outputs, name=proto.name, domain=proto.domain, attributes=attributes)
        )
    graph.outputs = [v for v in (value(name) for name in outputs) if v is not None]
    return GraphView(graph, graph.nodes, graph.inputs, graph.outputs, types, {}, name="test")


def _attribute(proto: onnx.AttributeProto) -> Attribute:
    kind = AttributeKind(proto.type)
    found = helper.get_attribute_value(proto)
    if kind is AttributeKind.TENSOR:
        return Attribute(kind, Tensor.from_numpy(numpy_helper.to_array(found)))
    if kind is AttributeKind.STRING:
        return Attribute(kind, found.decode())
    if kind is AttributeKind.STRINGS:
        return Attribute(kind, tuple(s.decode() for s in found))
    return Attribute(kind, tuple(found) if kind in (AttributeKind.INTS, AttributeKind.FLOATS) else found)


# --- oracles ----------------------------------------------------------------------------------------------------------


def _ask(
    oracle: str | Callable[[onnx.ModelProto, dict[str, Array]], Sequence[Array]],
    model: onnx.ModelProto,
    feeds: dict[str, Array],
) -> Sequence[Array]:
    if oracle == "reference":
        return ask_reference(model, feeds)
    if oracle == "onnxruntime":
        return ask_onnxruntime(model, feeds)
    assert not isinstance(oracle, str), f"there is no oracle called {oracle}"
    return oracle(model, feeds)


def ask_reference(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """All outputs of the model by onnx.reference."""
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"):
        found = ReferenceEvaluator(model).run(None, feeds)
    return [np.asarray(array) for array in found]


def ask_onnxruntime(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """All outputs of the model by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    inferred = onnx.shape_inference.infer_shapes(model)
    session = onnxruntime.InferenceSession(inferred.SerializeToString(), options, ["CPUExecutionProvider"])
    return [np.asarray(array) for array in session.run(None, feeds)]


def assert_close(got: Array, expected: Array, tol: float | None = None, name: str = "output") -> None:
    """Same dtype, same shape, same values (exactly, or within ``tol`` for floats)."""
    assert got.dtype == expected.dtype, f"{name} is {got.dtype}, should be {expected.dtype}"
    assert got.shape == expected.shape, f"{name} has shape {got.shape}, should be {expected.shape}"
    if DType.from_numpy(got.dtype).bits <= 8 and got.dtype.kind not in "biu":
        tol, got, expected = 0, got.astype(np.float32), expected.astype(np.float32)
        same_sign = (np.signbit(got) == np.signbit(expected)) | np.isnan(expected)
        assert same_sign.all(), f"{name} has a zero of the wrong sign"
    if got.dtype.kind not in "fcV" or (tol == 0 and got.dtype.name != "bfloat16"):
        np.testing.assert_array_equal(got, expected, err_msg=name)
        return
    limit = DEFAULT_TOLERANCE.get(got.dtype.name, 1e-5) if tol is None else tol
    if got.dtype.kind == "V" or got.dtype.name in ("float16", "bfloat16"):
        got, expected = got.astype(np.float32), expected.astype(np.float32)
    finite = np.abs(expected[np.isfinite(expected)])
    largest = float(finite.max()) if finite.size else 0.0
    np.testing.assert_allclose(got, expected, rtol=limit, atol=limit * largest, equal_nan=True, err_msg=name)


# --- running ----------------------------------------------------------------------------------------------------------


@functools.cache
def _backend(features: str | None, threads: int) -> CpuBackend:
    device = Device(provider="cpu", id="0", kind=DeviceKind.CPU, name="test", vendor="test")
    unit = (features or "").partition("+")[2]
    precision = {"bf16": "bfloat16", "fp16": "float16"}.get(unit.partition("-")[0], "float32")
    return CpuBackend(device, workers=Workers(threads), features=features, precision=precision)


def run_view(
    view: GraphView, feeds: Mapping[str, Array], *, features: str | None = None, threads: int = 1, runs: int = 2
) -> Ran:
    """Compile ``view`` on the cpu backend, run it ``runs`` times from garbage memory and once more from its stored
    form, return the last outputs."""
    backend = _backend(features, threads)
    capability = backend.capability(view)
    assert not capability.rejections, "; ".join(f"{r.node.name}: {r.reason}" for r in capability.rejections)
    (compiled,) = backend.compile([view])
    assert isinstance(compiled, CpuSubgraph)
    stored = backend.serialize([compiled])
    assert stored is not None, "what was compiled has no stored form"
    (restored,) = backend.deserialize(stored, [view])
    results: dict[str, Array] = {}
    for execution in [compiled.new_execution()] * runs + [restored.new_execution()]:
        workspace = _memory(DType.UINT8, (compiled.workspace_bytes,), "the workspace", Side.END, ALIGNMENT_BYTES)
        _run_once(view, execution, feeds, workspace, results, Side.END)
    for side in Side:
        with guarded_buffers(side) as scratch:
            (bounded,) = backend.compile([view])
        _run_once(view, bounded.new_execution(), feeds, None, results, side)
        for memory in scratch:
            memory.check()
    names = (step.name for step in compiled.assembly.steps)
    steps = tuple(name for name in names if not name.startswith(("Block", "Poison")))
    return Ran(results, steps, tuple(compiled.assembly.symbols), compiled.workspace_bytes)


def _run_once(
    view: GraphView,
    execution: Execution,
    feeds: Mapping[str, Array],
    workspace: BoundMemory | None,
    results: dict[str, Array],
    side: Side,
) -> None:
    """Run, look at all memory, and add the outputs to ``results``, which those of an earlier run must equal."""
    sources = [np.ascontiguousarray(feeds[value.name]) for value in view.inputs]
    inputs, outputs = ([_memory_of(view, value, side) for value in values] for values in (view.inputs, view.outputs))
    for memory, source in zip(inputs, sources, strict=True):
        memory.data[:] = _stored(source)

    def allocate(index: int, dtype: DType, shape: tuple[int, ...]) -> BoundTensor:
        """Where an output goes whose shape the run found out: it must be the expected one."""
        tensor = outputs[index].tensor
        assert (dtype, shape) == (tensor.dtype, tensor.shape), f"found {dtype.label} {shape}, not {tensor.shape}"
        return tensor

    execution.run(
        Bindings(
            inputs=[memory.tensor for memory in inputs],
            outputs=[memory.tensor for memory in outputs],
            workspace=None if workspace is None else workspace.tensor,
            allocate_output=allocate,
        )
    )
    for each in (*inputs, *outputs, *([] if workspace is None else [workspace])):
        each.memory.check()
    for value, memory, source in zip(view.inputs, inputs, sources, strict=True):
        assert memory.data.tobytes() == _stored(source).tobytes(), f"input {value.name} was changed"
    for value, memory in zip(view.outputs, outputs, strict=True):
        array = Tensor(memory.tensor.dtype, memory.tensor.shape, memory.data.copy()).numpy()
        if value.name in results:
            assert array.tobytes() == results[value.name].tobytes(), f"output {value.name} differs in a second run"
        results[value.name] = array


@dataclass(frozen=True, eq=False)
class BoundMemory:
    """A tensor, and the guarded memory in which it is."""

    memory: GuardedMemory
    tensor: BoundTensor

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        return self.memory.bytes


def _memory_of(view: GraphView, value: Value, side: Side) -> BoundMemory:
    kind = view.tensor_type(value)
    assert kind is not None
    return _memory(kind.dtype, kind.concrete_shape, value.name, side)


def _memory(dtype: DType, shape: tuple[int, ...], label: str, side: Side, alignment: int = 1) -> BoundMemory:
    nbytes = dtype.nbytes(int(np.prod(shape, dtype=np.int64)))
    memory = GuardedMemory(nbytes, side, alignment=alignment, label=f"{label} ({dtype.label}{list(shape)})")
    return BoundMemory(memory, BoundTensor(dtype, shape, Buffer(MemoryKind.HOST, nbytes, memory.address, memory)))


def _stored(array: Array) -> npt.NDArray[np.uint8]:
    """The bytes of an array as ONNX stores them."""
    payload: npt.NDArray[np.uint8] = Tensor.from_numpy(array).payload
    return payload


def run_model(
    model: str, feeds: Mapping[str, Array], *, tol: float = 1e-4, threads: int = 1, features: str | None = None
) -> dict[str, Array]:
    """Run a whole model on the cpu provider only, through a session, and compare with onnxruntime.

    ``tol`` is relative to each output's range.
    """
    import onnxruntime

    from mace_core import Session

    peer = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in peer.get_outputs()]
    wanted = dict(zip(names, peer.run(names, dict(feeds)), strict=True))
    options: dict[str, dict[str, object]] = {"cpu": {"threads": threads}}
    if features is not None:
        options["cpu"]["features"] = features
    with Session(model, devices=["cpu"], options=options, strict=True) as session:
        got: dict[str, Array] = session.run(dict(feeds))
    for name, array in wanted.items():
        spread = float(array.max() - array.min()) if array.size else 0.0
        assert got[name].dtype == array.dtype and got[name].shape == array.shape
        np.testing.assert_allclose(got[name], array, rtol=0, atol=tol * max(spread, 1e-6), err_msg=name)
    return got


# --- a stand-in for a producer of the BLOCKED layout ------------------------------------------------------------------


@lowers("Block", check=lambda view, node: None, domain=TEST_DOMAIN)
def _block(program: Program, node: Node) -> None:
    """Puts a value into the BLOCKED layout with NaN in the spare lanes, as the worst legal producer would."""
    from mace_core.native.numba_kernel import numba_source

    source, target = node.input(0), node.output(0)
    assert source is not None and target is not None
    n, c, *spatial = program.facts.shape(source)
    pixels = int(np.prod(spatial, dtype=np.int64))
    program.steps.emit(
        numba_source("blocking", "block_channels"),
        {
            "source": program.values.read(source),
            "target": program.values.write(target, Layout.BLOCKED),
            "images": n,
            "channels": c,
            "pixels": pixels,
            "block": program.settings.block,
        },
        extent=n * -(-c // program.settings.block),
    )

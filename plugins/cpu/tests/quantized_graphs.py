"""Builds models in QDQ form, and compares them with onnxruntime, which is told not to change them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from mace_cpu.memory_checks.guarded import guarded_buffers
from onnx import helper, numpy_helper

from mace_core import Session
from mace_core.testing.guard_pages import Side, guarded_executions

Array = npt.NDArray[Any]

RNG = np.random.default_rng(11)
_FIRST = RNG.bit_generator.state


def start_again() -> None:
    """Let `RNG` draw as it did first: what a test draws is not to depend on those that ran before."""
    RNG.bit_generator.state = _FIRST


@dataclass
class Quantizing:
    """A model whose float values are each quantized and dequantized again, as the caller asks.

    Attributes:
        dtype: of the quantized values, where nothing else is said.
    """

    dtype: str = "uint8"
    opset: int = 21
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    feeds: dict[str, Array] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)

    def input(self, *shape: int, dtype: str | None = None, scale: float = 0.05, zero: int | None = None) -> str:
        """A quantized input, dequantized."""
        name = f"in{len(self.feeds)}"
        limits = np.iinfo(dtype or self.dtype)
        self.feeds[name] = RNG.integers(limits.min, limits.max + 1, shape).astype(dtype or self.dtype)
        return self.real(name, dtype or self.dtype, scale, zero)

    def weight(self, array: Array, scale: Any, axis: int | None = None, zero: Any = 0) -> str:
        """A quantized constant, dequantized."""
        name = self.constant(array)
        zeros = np.full(np.shape(scale), zero, array.dtype)
        options = {} if axis is None else {"axis": axis}
        inputs = [name, self.constant(np.asarray(scale, np.float32)), self.constant(zeros)]
        return self.op("DequantizeLinear", *inputs, **options)

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def op(self, op_type: str, *inputs: str, results: int = 1, domain: str = "", **attributes: Any) -> str:
        """A node of floats."""
        number = len(self.nodes)
        names = [f"v{number}" if i == 0 else f"v{number}.{i}" for i in range(results)]
        node = helper.make_node(op_type, inputs, names, name=f"{op_type.lower()}{number}", domain=domain, **attributes)
        self.nodes.append(node)
        return names[0]

    def real(self, name: str, dtype: str, scale: float, zero: int | None = None) -> str:
        return self.op("DequantizeLinear", name, *self._encoding(dtype, scale, zero))

    def steps(self, real: str, scale: float = 0.05, zero: int | None = None, dtype: str | None = None) -> str:
        """The quantized form of a float, which becomes an output."""
        name = self.op("QuantizeLinear", real, *self._encoding(dtype or self.dtype, scale, zero))
        self.outputs.append(name)
        return name

    def again(self, real: str, scale: float = 0.05, zero: int | None = None) -> str:
        """A float quantized and dequantized."""
        return self.real(self.steps(real, scale, zero), self.dtype, scale, zero)

    def _encoding(self, dtype: str, scale: float, zero: int | None) -> tuple[str, str]:
        if zero is None:
            zero = {"uint8": 120, "uint16": 30000}.get(dtype, 3)
        return self.constant(np.float32(scale)), self.constant(np.array(zero, dtype))

    def model(self, outputs: Sequence[str] = ()) -> onnx.ModelProto:
        def info(name: str, array: Array) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

        graph = helper.make_graph(
            self.nodes,
            "quantized",
            [info(name, array) for name, array in self.feeds.items()],
            [onnx.ValueInfoProto(name=name) for name in (outputs or self.outputs)],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in self.constants.items()],
        )
        domains = {node.domain for node in self.nodes} - {""}
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in sorted(domains))]
        return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=10))


@dataclass(frozen=True)
class Outcome:
    """What a run gave: outputs by name, the operators of its steps, and remarks on nodes by name."""

    outputs: dict[str, Array]
    steps: set[str]
    notes: dict[str, str]

    @property
    def in_float(self) -> dict[str, str]:
        """Why nodes were computed in float."""
        return {name: note for name, note in self.notes.items() if "in float" in note}


def run(model: onnx.ModelProto, feeds: Mapping[str, Array], folder: Path, **options: Any) -> Outcome:
    """A run on the cpu provider alone; all memory ends at pages that nobody may touch, as in `harness`."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    settings = {"cpu": {"threads": 1, **options}}
    with (
        guarded_executions(Side.END),
        guarded_buffers(Side.END) as scratch,
        Session(str(path), devices=["cpu"], strict=True, options=settings, cache=False) as session,
    ):
        outputs = {name: np.asarray(array) for name, array in session.run(dict(feeds)).items()}
        profile = session.profile(dict(feeds))
        notes = {node.node: node.note for node in session.explain().nodes}
        for memory in scratch:
            memory.check()
        return Outcome(outputs, {part for span in profile.spans for part in span.name.split("+")}, notes)


def ask(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What onnxruntime makes of the model as it stands, its floats computed in float."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, (np.asarray(array) for array in session.run(None, dict(feeds))), strict=True))


def check(graph: Quantizing, folder: Path, *, within: int = 1, floats: Sequence[str] = (), **options: Any) -> Outcome:
    """Run and compare every output with onnxruntime: numbers within so many steps, floats within 1e-5.

    ``floats``: further outputs.
    """
    model = graph.model([*graph.outputs, *floats])
    found, expected = run(model, graph.feeds, folder, **options), ask(model, graph.feeds)
    for name, right in expected.items():
        got = found.outputs[name]
        assert got.dtype == right.dtype
        assert got.shape == right.shape
        if right.dtype.kind == "f":
            np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-5)
        else:
            apart = np.abs(got.astype(np.int64) - right.astype(np.int64)).max(initial=0)
            assert apart <= within, f"{name} is {apart} steps off"
    return found


def opened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with each quantized value as an input, and what it would be, computed from the others, as an output.

    The outputs are named as the values, with ``/again`` behind.
    """
    found = onnx.ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    types = {info.name: info for info in (*graph.value_info, *graph.output)}
    del graph.output[:]
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            name = node.output[0]
            graph.input.append(types[name])
            node.output[0] = f"{name}/again"
            graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    return found


def with_steps(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every quantized value among its outputs."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    there = {output.name for output in found.graph.output}
    made = [node.output[0] for node in found.graph.node if node.op_type == "QuantizeLinear"]
    found.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made if name not in there)
    return found


def steps_apart(model: onnx.ModelProto, feeds: Mapping[str, Array], folder: Path, **options: Any) -> dict[str, int]:
    """How many steps each quantized value is away from what onnxruntime makes of the values before it, in order.

    It computes each from ours, so what is said of one says nothing of those before.
    """
    found = run(with_steps(model), feeds, folder, **options).outputs
    values = {node.output[0]: found[node.output[0]] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    expected = ask(opened(model), {**feeds, **values})
    return {
        name: int(np.abs(array.astype(np.int64) - expected[f"{name}/again"].astype(np.int64)).max(initial=0))
        for name, array in values.items()
    }

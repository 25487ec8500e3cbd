"""Small .tflite models, written with the schema of LiteRT's own package, and what LiteRT computes of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import mace_core as mace

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int32": schema.TensorType.INT32,
    "uint8": schema.TensorType.UINT8,
    "int64": schema.TensorType.INT64,
    "bool": schema.TensorType.BOOL,
    "int16": schema.TensorType.INT16,
    "int8": schema.TensorType.INT8,
    "complex64": schema.TensorType.COMPLEX64,
    "resource": schema.TensorType.RESOURCE,
    "int4": schema.TensorType.INT4,
    "uint32": schema.TensorType.UINT32,
    "string": schema.TensorType.STRING,
}

Arrays = dict[str, npt.NDArray[Any]]


class LiteGraph:
    """A subgraph that is being written.  Tensors are known by their numbers."""

    def __init__(self, model: LiteModel, name: str) -> None:
        self.model = model
        self.table = schema.SubGraphT()
        self.table.name = name.encode()
        self.table.tensors, self.table.operators = [], []
        self.table.inputs, self.table.outputs = [], []

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        *,
        data: npt.ArrayLike | None = None,
        scale: npt.ArrayLike | None = None,
        zero: npt.ArrayLike = 0,
        axis: int = 0,
        signature: Sequence[int] | None = None,
        sparsity: Any = None,
    ) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type = name.encode(), list(shape), TYPES[dtype]
        made.shapeSignature = None if signature is None else list(signature)
        made.buffer, made.hasRank, made.sparsity = 0, True, sparsity
        if data is not None:
            made.buffer = self.model.buffer(np.asarray(data).tobytes())
        if scale is not None:
            found = schema.QuantizationParametersT()
            found.scale = np.atleast_1d(np.asarray(scale, np.float32))
            found.zeroPoint = np.broadcast_to(np.asarray(zero, np.int64), found.scale.shape).copy()
            found.quantizedDimension = axis
            made.quantization = found
        self.table.tensors.append(made)
        return len(self.table.tensors) - 1

    def constant(self, name: str, content: npt.ArrayLike, dtype: str | None = None, **more: Any) -> int:
        values = np.asarray(content) if dtype is None else np.asarray(content, dtype)
        return self.tensor(name, values.shape, values.dtype.name, data=values, **more)

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32", **more: Any) -> int:
        number = self.tensor(name, shape, dtype, **more)
        self.table.inputs.append(number)
        return number

    def output(self, name: str, shape: Sequence[int], dtype: str = "float32", **more: Any) -> int:
        number = self.tensor(name, shape, dtype, **more)
        self.table.outputs.append(number)
        return number

    def op(
        self,
        kind: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        *,
        version: int = 1,
        custom: bytes = b"",
        **fields: Any,
    ) -> None:
        """Append an operator; ``fields`` are those of its table of options, as the schema names them."""
        made = schema.OperatorT()
        made.opcodeIndex = self.model.code(kind, version)
        made.inputs, made.outputs = list(inputs), list(outputs)
        if options:
            table = getattr(schema, f"{options}T")()
            for name, value in fields.items():
                assert hasattr(table, name), name
                setattr(table, name, value)
            if hasattr(schema.BuiltinOptions, options):
                made.builtinOptionsType, made.builtinOptions = getattr(schema.BuiltinOptions, options), table
            else:
                made.builtinOptions2Type, made.builtinOptions2 = getattr(schema.BuiltinOptions2, options), table
        if custom:
            made.customOptions = list(custom)
        self.table.operators.append(made)


class LiteModel:
    """A model that is being written."""

    def __init__(self) -> None:
        self.table = schema.ModelT()
        self.table.version, self.table.description = 3, b"made by a test"
        self.table.buffers, self.table.operatorCodes = [schema.BufferT()], []
        self.table.subgraphs = []
        self.graphs: list[LiteGraph] = []
        self._codes: dict[tuple[str, int], int] = {}

    def graph(self, name: str = "main") -> LiteGraph:
        made = LiteGraph(self, name)
        self.graphs.append(made)
        self.table.subgraphs.append(made.table)
        return made

    def buffer(self, content: bytes) -> int:
        made = schema.BufferT()
        made.data = np.frombuffer(content, np.uint8)
        self.table.buffers.append(made)
        return len(self.table.buffers) - 1

    def code(self, kind: str, version: int) -> int:
        if (kind, version) not in self._codes:
            made = schema.OperatorCodeT()
            number = getattr(schema.BuiltinOperator, kind, None)
            if number is None:
                made.customCode, number = kind.encode(), schema.BuiltinOperator.CUSTOM
            made.builtinCode, made.deprecatedBuiltinCode, made.version = number, min(number, 127), version
            self._codes[kind, version] = len(self.table.operatorCodes)
            self.table.operatorCodes.append(made)
        return self._codes[kind, version]

    def bytes(self) -> bytes:
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.table.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def lite_results(model: bytes | Path, *runs: Mapping[str, npt.NDArray[Any]]) -> list[Arrays]:
    """What LiteRT computes, one run after the other, by the names of the tensors.

    Inputs are given by the order of the model's; a shape that differs from the file's is set first.
    """
    given = {"model_path": os.fspath(model)} if isinstance(model, Path) else {"model_content": model}
    interpreter = Interpreter(**given, num_threads=1)
    details = interpreter.get_input_details()
    found: list[Arrays] = []
    for feeds in runs:
        values = list(feeds.values())
        if not found:
            for detail, value in zip(details, values, strict=True):
                if list(detail["shape"]) != list(value.shape):
                    interpreter.resize_tensor_input(detail["index"], value.shape)
            interpreter.allocate_tensors()
        for detail, value in zip(details, values, strict=True):
            interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()
        found.append(
            {detail["name"]: interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()}
        )
    return found


def mace_results(model: bytes | Path, *runs: Mapping[str, npt.NDArray[Any]]) -> list[Arrays]:
    """What MACE computes on the CPU provider alone."""
    with mace.Session(model, devices=["cpu"], strict=True) as session:
        names = [spec.name for spec in session.inputs]
        return [session.run(dict(zip(names, feeds.values(), strict=True))) for feeds in runs]


def assert_agree(model: bytes | Path, *runs: Mapping[str, npt.NDArray[Any]], tolerance: float = 1e-5) -> list[Arrays]:
    """MACE's results are LiteRT's: floats within ``tolerance`` of their range, quantized numbers within one step."""
    expected, found = lite_results(model, *runs), mace_results(model, *runs)
    for ours, theirs in zip(found, expected, strict=True):
        for (name, value), reference in zip(ours.items(), theirs.values(), strict=True):
            assert value.shape == reference.shape, name
            assert value.dtype == reference.dtype, name
            if reference.size == 0:
                continue
            if reference.dtype.kind == "f":
                finite = np.isfinite(reference)
                assert np.array_equal(finite, np.isfinite(value)), name
                span = max(float(np.ptp(reference[finite])), float(np.abs(reference[finite]).max()), 1e-6)
                worst = float(np.abs(value[finite] - reference[finite]).max())
                assert worst <= tolerance * span, f"{name}: {worst:.2e} of {span:.3g}"
            elif reference.dtype.kind == "b":
                assert np.array_equal(value, reference), name
            else:
                steps = np.abs(value.astype(np.int64) - reference.astype(np.int64)).max()
                assert steps <= (1 if reference.dtype.itemsize < 4 else 0), f"{name}: {steps} steps"
    return found

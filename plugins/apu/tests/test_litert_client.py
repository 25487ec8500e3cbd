"""A client that nobody here wrote, LiteRT's compiler plugin for MediaTek, compiles models with the stand-in.

It shows that structures, numbers of types and operations, and the order of arguments are those of the real interface: a
stand-in with one structure written wrongly is refused by it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apu_support import build, open_backend
from mace_apu.neuron.handles import NeuronCompilation, NeuronExecution

from mace_core.provider import Device

SHAPE = (1, 8, 8, 3)
CHANNELS = 4

MARK = b"NeuronStandIn 1\0"
"""Begins what the stand-in stores; the size of the rest and a checksum follow."""


def package() -> Path | None:
    """The folder of ai-edge-litert, where it brings the plugin and the program that drives it."""
    spec = importlib.util.find_spec("ai_edge_litert")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    return folder if plugin(folder).is_file() and (folder / "tools" / "apply_plugin_main").is_file() else None


def plugin(folder: Path) -> Path:
    """LiteRT's compiler plugin for MediaTek."""
    return folder / "vendors" / "mediatek" / "compiler" / "libLiteRtCompilerPlugin_MediaTek.so"


pytestmark = pytest.mark.skipif(
    package() is None or importlib.util.find_spec("flatbuffers") is None,
    reason="LiteRT with its plugin for MediaTek is not here: pip install --no-deps ai-edge-litert, and flatbuffers",
)


def tflite_model(*, quantized: bool = False) -> bytes:
    """x (1, 8, 8, 3) -> CONV_2D 3x3 with RELU6 -> ADD of itself -> (1, 8, 8, 4), in float32 or in int8 with scales per
    channel."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    rng = np.random.default_rng(0)
    result = (*SHAPE[:3], CHANNELS)
    shape = (CHANNELS, 3, 3, SHAPE[3])
    numbers = schema.TensorType.INT8 if quantized else schema.TensorType.FLOAT32
    scales = np.float32([0.01, 0.02, 0.03, 0.04])
    if quantized:
        filters = rng.integers(-127, 128, shape).astype(np.int8)
        bias = rng.integers(-1000, 1000, CHANNELS).astype(np.int32)
    else:
        filters = rng.standard_normal(shape).astype(np.float32)
        bias = rng.standard_normal(CHANNELS).astype(np.float32)
    buffers: list[Any] = [schema.BufferT()]
    tensors: list[Any] = []

    def tensor(
        name: str, shape: tuple[int, ...], kind: int, scale: Any, zero_point: int = 0, data: np.ndarray | None = None
    ) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name.encode(), list(shape), kind, 0
        if quantized:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = np.atleast_1d(np.float32(scale))
            made.quantization.zeroPoint = np.full(made.quantization.scale.shape, zero_point, np.int64)
            made.quantization.quantizedDimension = 0
        if data is not None:
            content = schema.BufferT()
            content.data = np.frombuffer(data.tobytes(), np.uint8)
            buffers.append(content)
            made.buffer = len(buffers) - 1
        tensors.append(made)
        return len(tensors) - 1

    def operator(code: int, inputs: list[int], output: int, kind: int, options: Any) -> Any:
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, inputs, [output]
        made.builtinOptionsType, made.builtinOptions = kind, options
        return made

    def code(builtin: int) -> Any:
        made = schema.OperatorCodeT()
        made.builtinCode, made.deprecatedBuiltinCode, made.version = builtin, builtin, 3 if quantized else 1
        return made

    x = tensor("x", SHAPE, numbers, 0.05, 3)
    weights = tensor("filters", shape, numbers, scales, data=filters)
    bias_type = schema.TensorType.INT32 if quantized else schema.TensorType.FLOAT32
    offsets = tensor("bias", bias.shape, bias_type, 0.05 * scales, data=bias)
    convolved, y = tensor("convolved", result, numbers, 6 / 255, -128), tensor("y", result, numbers, 12 / 255, -128)
    convolution, addition = schema.Conv2DOptionsT(), schema.AddOptionsT()
    convolution.padding, convolution.strideW, convolution.strideH = schema.Padding.SAME, 1, 1
    convolution.dilationWFactor, convolution.dilationHFactor = 1, 1
    convolution.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.name = tensors, [x], [y], b"main"
    graph.operators = [
        operator(0, [x, weights, offsets], convolved, schema.BuiltinOptions.Conv2DOptions, convolution),
        operator(1, [convolved, convolved], y, schema.BuiltinOptions.AddOptions, addition),
    ]
    model = schema.ModelT()
    model.version, model.description = 3, b"test"
    model.operatorCodes = [code(schema.BuiltinOperator.CONV_2D), code(schema.BuiltinOperator.ADD)]
    model.subgraphs, model.buffers = [graph], buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class Compiled:
    """What LiteRT's program did: whether it ended well, what it printed, the functions it called, its result."""

    def __init__(self, folder: Path, libraries: Path, *, quantized: bool = False, **environment: str) -> None:
        found = package()
        assert found is not None
        program = folder / "apply_plugin_main"
        shutil.copy(found / "tools" / "apply_plugin_main", program)
        program.chmod(0o755)
        model, self.output, log = folder / "model.tflite", folder / "compiled.tflite", folder / "calls"
        model.write_bytes(tflite_model(quantized=quantized))
        done = subprocess.run(
            [
                *(program, "--cmd=apply", f"--model={model}", f"--o={self.output}"),
                *("--soc_manufacturer=MediaTek", "--soc_model=mt6989", f"--libs={plugin(found).parent}"),
            ],
            env={
                **os.environ,
                "LD_LIBRARY_PATH": str(libraries),
                "NEURON_STAND_IN_LOG": str(log),
                "NEURON_STAND_IN_VERBOSE": "1",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.code = done.returncode
        self.text = done.stdout + done.stderr
        self.calls = log.read_text().split() if log.is_file() else []

    def network(self) -> bytes:
        """The stand-in's compiled network out of the result."""
        content = self.output.read_bytes()
        start = content.index(MARK)
        (size,) = struct.unpack_from("<Q", content, start + len(MARK))
        return content[start : start + len(MARK) + 16 + int(size)]

    @property
    def holds_a_compiled_network(self) -> bool:
        """Whether the result has what the stand-in stored in it."""
        return self.output.is_file() and MARK in self.output.read_bytes()


@pytest.mark.parametrize("quantized", [False, True])
def test_it_compiles_a_model_through_the_whole_interface(
    stand_in_folder: Path, tmp_path: Path, quantized: bool
) -> None:
    done = Compiled(tmp_path, stand_in_folder, quantized=quantized)
    assert done.code == 0, done.text
    assert {
        *("Neuron_getVersion", "NeuronModel_create", "NeuronModel_addOperand", "NeuronModel_setOperandValue"),
        *("NeuronModel_addOperation", "NeuronModel_identifyInputsAndOutputs", "NeuronModel_finish"),
        *("NeuronModel_relaxComputationFloat32toFloat16", "NeuronCompilation_createWithOptions"),
        *("NeuronCompilation_finish", "NeuronCompilation_getCompiledNetworkSize"),
        "NeuronCompilation_storeCompiledNetwork",
    } <= set(done.calls)
    assert done.calls.count("NeuronModel_addOperation") == 2
    assert any("PerChannelQuantParams" in call for call in done.calls) == quantized
    assert done.holds_a_compiled_network


@pytest.mark.parametrize("quantized", [False, True])
def test_what_it_compiled_computes_what_litert_computes(
    device: Device, stand_in_folder: Path, tmp_path: Path, quantized: bool
) -> None:
    """LiteRT's arguments, executed by the stand-in, beside LiteRT's own processor kernels."""
    from ai_edge_litert.interpreter import Interpreter

    kind = np.int8 if quantized else np.float32
    x = (np.random.default_rng(1).standard_normal(SHAPE) * (40 if quantized else 1)).astype(kind)
    interpreter = Interpreter(model_content=tflite_model(quantized=quantized))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    done = Compiled(tmp_path, stand_in_folder, quantized=quantized)
    backend = open_backend(device)
    compilation = NeuronCompilation.restore(backend.devices, done.network())
    execution = NeuronExecution(compilation)
    found = np.zeros(expected.shape, kind)
    execution.set_input(0, x.ctypes.data, x.nbytes)
    execution.set_output(0, found.ctypes.data, found.nbytes)
    execution.compute()
    execution.close()
    compilation.close()
    backend.close()
    expected, found = expected.astype(np.float32), found.astype(np.float32)
    assert np.ptp(expected) > (100 if quantized else 5)
    tolerance = 1 if quantized else 5e-3 * float(np.ptp(expected))  # a step, or float16
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_a_structure_written_wrongly_is_noticed(stand_in_folder: Path, tmp_path: Path) -> None:
    done = Compiled(tmp_path, build("-DWRONG_STRUCT"))
    assert "NeuronModel_addOperand" in done.calls
    assert "Neuron stand-in: " in done.text
    assert not done.holds_a_compiled_network


def test_a_call_that_fails_is_noticed(stand_in_folder: Path, tmp_path: Path) -> None:
    done = Compiled(tmp_path, stand_in_folder, NEURON_STAND_IN_FAIL="NeuronCompilation_finish:5")
    assert "NeuronCompilation_finish" not in done.calls  # a call that is told to fail is not logged
    assert "told to fail (5)" in done.text
    assert not done.holds_a_compiled_network

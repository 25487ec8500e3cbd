"""The engines: how each loads a model and runs it, in float32 and with a given number of threads.

An engine is imported when it is opened, so that its import is part of what a process's first result costs.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

LITE = ("tflite", "tflite-int8")
"""The precisions in which all engines are given one .tflite file."""

Array: TypeAlias = npt.NDArray[Any]
Run: TypeAlias = Callable[[], Sequence[Array]]
"""Runs the model once on the inputs it was opened with and gives the outputs in the model's order."""


@dataclass(frozen=True, slots=True)
class Job:
    """What an engine is opened with.

    Attributes:
        model: path of the model in the engine's own format.
        feeds: inputs by name, in the model's order, channels first.
        outputs: names of the outputs, in the model's order.
    """

    model: str
    threads: int
    feeds: Mapping[str, Array]
    outputs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine.

    Attributes:
        distributions: what must be installed, the engine itself first.
        install: the command that brings it.
        form: the format it reads: "onnx", "ncnn", "mnn" or "tflite".
        open: loads a model.
        reads_lite: whether it reads .tflite files as they are.
    """

    name: str
    distributions: tuple[str, ...]
    install: str
    form: str
    open: Callable[[Job], Run]
    reads_lite: bool = False

    @property
    def int8_form(self) -> str:
        """The same of networks in 8 bits: QDQ graphs where it reads them, else its own form."""
        return self.form if self.form == "onnx" else f"{self.form}-int8"

    def form_of(self, precision: str) -> str:
        """The format it is given; see `benchmarks.compare.precision`."""
        if precision in LITE:
            return "tflite" if self.reads_lite else self.form
        return self.int8_form if precision == "int8" else self.form

    def version(self) -> str | None:
        """None: it, or a tool it needs, is not installed."""
        try:
            versions = [importlib.metadata.version(name) for name in self.distributions]
        except importlib.metadata.PackageNotFoundError:
            return None
        return versions[0]


def _open_mace(job: Job) -> Run:
    import mace_core as mace

    session = mace.Session(job.model, devices=["cpu"], options={"cpu": {"threads": job.threads}}, strict=True)
    feeds = dict(job.feeds)
    return lambda: list(session.run(feeds).values())


def _open_onnxruntime(job: Job) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(job.model, options, providers=["CPUExecutionProvider"])
    feeds = dict(job.feeds)
    return lambda: session.run(None, feeds)


def _open_openvino(job: Job) -> Run:
    import openvino

    core = openvino.Core()
    model = core.read_model(job.model)
    model.reshape({name: list(array.shape) for name, array in job.feeds.items()})
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": job.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()
    feeds = dict(job.feeds)

    def run() -> list[Array]:
        request.infer(feeds, share_inputs=True)
        return [tensor.data for tensor in request.output_tensors]

    return run


def _open_ncnn(job: Job) -> Run:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = job.threads
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(f"{job.model}/model.ncnn.param") or net.load_model(f"{job.model}/model.ncnn.bin"):
        raise RuntimeError("ncnn cannot load what its converter wrote")
    # its arrays have no batch dimension; they refer to the memory of ours, which the closure keeps
    arrays = [np.ascontiguousarray(array[0]) for array in job.feeds.values()]
    inputs, outputs = net.input_names(), net.output_names()

    def run() -> list[Array]:
        with net.create_extractor() as extractor:
            for name, array in zip(inputs, arrays, strict=True):
                extractor.input(name, ncnn.Mat(array))
            return [np.array(extractor.extract(name)[1]) for name in outputs]

    return run


def _open_mnn(job: Job) -> Run:
    import MNN

    interpreter = MNN.Interpreter(job.model)
    session = interpreter.createSession({"backend": "CPU", "numThread": job.threads, "precision": "high"})
    tensors = interpreter.getSessionInputAll(session)
    for name, array in job.feeds.items():
        if tuple(tensors[name].getShape()) != array.shape:
            interpreter.resizeTensor(tensors[name], array.shape)
    interpreter.resizeSession(session)
    # it has no int64
    feeds = {name: array.astype(np.int32) if array.dtype == np.int64 else array for name, array in job.feeds.items()}
    kinds = {"float32": MNN.Halide_Type_Float, "int32": MNN.Halide_Type_Int}
    plain = MNN.Tensor_DimensionType_Caffe
    results = interpreter.getSessionOutputAll(session)

    def run() -> list[Array]:
        for name, array in feeds.items():
            tensors[name].copyFrom(MNN.Tensor(array.shape, kinds[array.dtype.name], array, plain))
        interpreter.runSession(session)
        outputs = []
        for name in job.outputs:
            shape = results[name].getShape()
            host = MNN.Tensor(shape, MNN.Halide_Type_Float, np.empty(shape, np.float32), plain)
            results[name].copyToHostTensor(host)
            outputs.append(np.array(host.getNumpyData(), copy=True).reshape(shape))
        return outputs

    return run


def _open_litert(job: Job) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=job.model, num_threads=job.threads)
    details = interpreter.get_input_details()
    # models that were converted are channels last, which the feeds are not
    arrays = [
        a if a.ndim != 4 or a.shape == tuple(detail["shape"]) else np.ascontiguousarray(a.transpose(0, 2, 3, 1))
        for detail, a in zip(details, job.feeds.values(), strict=True)
    ]
    for detail, array in zip(details, arrays, strict=True):
        if tuple(detail["shape"]) != array.shape:
            interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()
    inputs = [detail["index"] for detail in details]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def run() -> list[Array]:
        for index, array in zip(inputs, arrays, strict=True):
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run


MACE = "mace"

ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(MACE, ("mace-core", "mace-cpu"), "pip install mace-core[cpu]", "onnx", _open_mace, reads_lite=True),
        Engine("onnxruntime", ("onnxruntime",), "pip install onnxruntime", "onnx", _open_onnxruntime),
        Engine("openvino", ("openvino",), "pip install openvino", "onnx", _open_openvino),
        # pnnx, the converter, names torch as a dependency but its program does not use it
        Engine("ncnn", ("ncnn", "pnnx"), "pip install ncnn && pip install --no-deps pnnx", "ncnn", _open_ncnn),
        Engine("mnn", ("MNN",), "pip install MNN", "mnn", _open_mnn),
        Engine("litert", ("ai-edge-litert",), "pip install ai-edge-litert", "tflite", _open_litert, reads_lite=True),
    )
}

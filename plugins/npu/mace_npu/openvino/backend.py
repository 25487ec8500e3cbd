"""A unit of OpenVINO made ready."""

from __future__ import annotations

import io
import json
import weakref
from collections.abc import Sequence
from typing import Any

import openvino

from mace_core.errors import OutOfMemoryError, ProviderError, UnsupportedError
from mace_core.graph import GraphView
from mace_core.provider import Backend, Capability, CompiledSubgraph, Device, ShapeSupport, Stream
from mace_core.provider.worker_queue import WorkerQueue
from mace_npu.openvino.claims import capability
from mace_npu.openvino.execution import OpenVinoSubgraph, Ports
from mace_npu.subgraph_model import to_model
from mace_npu.version import VERSION

_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
"""Operators that are stored as ONNX and compiled again: OpenVINO 2026.4 mixes up the gates of those it imports."""

_EXPORTED, _ONNX = "exported", "onnx"
"""Forms in which a compiled subgraph is stored."""


class OpenVinoBackend(Backend):
    """One of OpenVINO's devices."""

    shape_support = ShapeSupport.STATIC

    def __init__(self, device: Device, unit: str, settings: dict[str, str]) -> None:
        """``unit`` is OpenVINO's name of the device, ``settings`` are properties to compile with.

        Raises:
            ProviderError: if OpenVINO has no such device here.
        """
        self.device = device
        self._unit = unit
        self._settings = settings
        self._core = openvino.Core()
        self._made: weakref.WeakSet[OpenVinoSubgraph] = weakref.WeakSet()
        try:
            available = self._core.available_devices
            described = str(self._core.get_property(unit, "FULL_DEVICE_NAME")) if unit in available else ""
        except RuntimeError as error:
            raise self._failure("OpenVINO cannot look for devices", error) from None
        if not described:
            raise ProviderError(
                f"{device.qualified_name} cannot be opened: OpenVINO {openvino.__version__} has "
                f"{', '.join(available) or 'no device'} here, not {unit}",
                device=device.qualified_name,
            )
        self.described = described
        self.notes = (f"{device.qualified_name} is OpenVINO {openvino.__version__} on its device {unit}: {described}",)

    def capability(self, view: GraphView) -> Capability:
        return capability(view, self)

    def read(self, model: bytes) -> Any:
        """An ONNX model as OpenVINO converts it."""
        return self._core.read_model(model)

    def supported(self, model: Any) -> frozenset[str]:
        """Names of the operations of ``model`` that the unit runs."""
        return frozenset(self._core.query_model(model, self._unit, self._settings))

    def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        compiled: list[CompiledSubgraph] = []
        try:
            for view in subgraphs:
                compiled.append(self._compile(view))
        except BaseException:
            for item in compiled:
                item.close()
            raise
        return compiled

    def _compile(self, view: GraphView) -> OpenVinoSubgraph:
        return self._from_onnx(view, to_model(view))

    def _from_onnx(self, view: GraphView, model: bytes) -> OpenVinoSubgraph:
        try:
            compiled = self._core.compile_model(self._core.read_model(model), self._unit, self._settings)
        except RuntimeError as error:
            raise self._refusal(view, error) from None
        is_recurrent = any(node.op_type in _RECURRENT for node in view.nodes)
        return self._subgraph(view, compiled, model if is_recurrent else None)

    def _subgraph(self, view: GraphView, compiled: Any, onnx: bytes | None) -> OpenVinoSubgraph:
        ports = Ports(len(view.inputs), len(view.outputs))
        if (len(compiled.inputs), len(compiled.outputs)) != ports:
            raise UnsupportedError(
                f"OpenVINO made {len(compiled.inputs)} inputs and {len(compiled.outputs)} results of '{view.name}', "
                f"which has {ports.inputs} and {ports.outputs}"
            )
        devices = ", ".join(compiled.get_property("EXECUTION_DEVICES"))
        constants = frozenset(
            value.name
            for node in view.nodes
            for value in node.inputs
            if value is not None and value.constant is not None
        )
        made = OpenVinoSubgraph(self.device.qualified_name, view, compiled, devices, constants, onnx)
        self._made.add(made)
        return made

    def trim(self) -> int:
        for subgraph in list(self._made):
            subgraph.trim()
        return 0  # OpenVINO does not say how much that was

    def create_stream(self) -> Stream:
        return WorkerQueue(self.device.qualified_name)

    def serialize(self, compiled: Sequence[CompiledSubgraph]) -> bytes | None:
        blobs: list[bytes] = []
        kinds: list[str] = []
        for item in compiled:
            assert isinstance(item, OpenVinoSubgraph)
            kinds.append(_EXPORTED if item.onnx is None else _ONNX)
            try:
                blobs.append(_bytes(item.compiled.export_model()) if item.onnx is None else item.onnx)
            except RuntimeError as error:
                raise self._failure("OpenVINO cannot export what it compiled", error) from None
        header = json.dumps([(kind, len(blob)) for kind, blob in zip(kinds, blobs, strict=True)]).encode()
        return b"".join((header, b"\n", *blobs))

    def deserialize(self, blob: bytes, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        header, _, content = blob.partition(b"\n")
        parts = json.loads(header)
        if len(parts) != len(subgraphs) or sum(length for _, length in parts) != len(content):
            raise UnsupportedError("the stored OpenVINO models are not those of these subgraphs")
        compiled: list[CompiledSubgraph] = []
        start = 0
        for (kind, length), view in zip(parts, subgraphs, strict=True):
            part = content[start : start + length]
            compiled.append(self._from_onnx(view, part) if kind == _ONNX else self._imported(view, part))
            start += length
        return compiled

    def _imported(self, view: GraphView, part: bytes) -> OpenVinoSubgraph:
        try:
            compiled = self._core.import_model(io.BytesIO(part), self._unit, self._settings)
        except RuntimeError as error:
            raise UnsupportedError(f"OpenVINO refuses the stored form of '{view.name}': {_last_line(error)}") from None
        return self._subgraph(view, compiled, None)

    def compatibility_key(self) -> str:
        facts = [f"mace-npu {VERSION}", f"OpenVINO {openvino.__version__}", self._unit, self.described]
        for name in ("DEVICE_ARCHITECTURE", "NPU_DRIVER_VERSION", "NPU_COMPILER_VERSION"):
            try:
                facts.append(f"{name}={self._core.get_property(self._unit, name)}")
            except RuntimeError:  # not a property of this unit
                continue
        facts += [f"{name}={value}" for name, value in sorted(self._settings.items())]
        return "; ".join(facts)

    def _refusal(self, view: GraphView, error: RuntimeError) -> ProviderError:
        text = _last_line(error)
        if "memory" in text.lower() and "alloc" in text.lower():
            return OutOfMemoryError(f"OpenVINO has no memory for '{view.name}': {text}")
        return UnsupportedError(f"OpenVINO cannot compile '{view.name}' for {self._unit}: {text}")

    def _failure(self, what: str, error: RuntimeError) -> ProviderError:
        return ProviderError(f"{what}: {_last_line(error)}", device=self.device.qualified_name)


def _bytes(exported: Any) -> bytes:
    return exported if isinstance(exported, bytes) else bytes(exported.getbuffer())


def _last_line(error: RuntimeError) -> str:
    """The line of an error of OpenVINO's that tells most: below where it was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or ["no reason is given"])[-1]

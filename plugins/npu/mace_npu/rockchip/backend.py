"""A simulated chip made ready."""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Sequence
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np

from mace_core.errors import CancelledError, OutOfMemoryError, ProviderError, UnsupportedError
from mace_core.graph import GraphView
from mace_core.provider import (
    Backend,
    Bindings,
    BoundTensor,
    Capability,
    CompiledSubgraph,
    Device,
    Execution,
    ShapeSupport,
)
from mace_npu.rockchip.claims import capability
from mace_npu.rockchip.process import RefusedError, WorkerGoneError, WorkerProcess
from mace_npu.rockchip.quantized import is_quantized, spell_out_zero_points
from mace_npu.subgraph_model import to_model

_log = logging.getLogger("mace")

_ALIGNMENT_BYTES = 64


class RockchipBackend(Backend):
    """One chip, simulated by a worker process."""

    shape_support = ShapeSupport.STATIC

    def __init__(self, device: Device, chip: str, python: Path, seconds: float, export: Path | None = None) -> None:
        """``export`` is a folder for the files that the toolkit makes for the chip."""
        self.device = device
        self.chip = chip
        self.export = export
        self._exported: set[str] = set()
        self.worker = WorkerProcess(python, device.qualified_name, seconds=seconds)
        self.notes = (f"{device.qualified_name} is a simulation by rknn-toolkit2 in the environment of {python}",)

    def capability(self, view: GraphView) -> Capability:
        return capability(view)

    def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        compiled: list[CompiledSubgraph] = []
        try:
            for view in subgraphs:
                item = RockchipSubgraph(self, view)
                compiled.append(item)
                item.make_ready()
        except RefusedError as error:
            for made in compiled:
                made.close()
            raise UnsupportedError(f"'{view.name}' cannot be built for {self.chip}: {error}") from None
        except BaseException:
            for made in compiled:
                made.close()
            raise
        return compiled

    def file_for(self, name: str) -> Path | None:
        """Where the file of a subgraph goes, another one for each in a session; None where none is wanted."""
        if self.export is None:
            return None
        stem = re.sub(r"[^\w.-]+", "_", name.replace(self.device.qualified_name, "")).strip("._") or "model"
        numbered = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        chosen = next(each for each in numbered if each not in self._exported)
        self._exported.add(chosen)
        return self.export / f"{chosen}.{self.chip}.rknn"

    def close(self) -> None:
        self.worker.close()


class RockchipSubgraph(CompiledSubgraph):
    """A model in the worker; built again in the next one where that worker has gone."""

    def __init__(self, backend: RockchipBackend, view: GraphView) -> None:
        self._backend = backend
        self._onnx = to_model(view, spell_out_zero_points)
        self._is_quantized = is_quantized(view)
        self._file = backend.file_for(view.name)
        self._lock = threading.Lock()
        self._generation = 0
        self._number = 0
        self.span = f"RKNN simulator of {backend.chip}"
        self.sources = tuple(dict.fromkeys(name for node in view.nodes for name in node.source))
        self.source_map = {self.span: self.sources}

    def make_ready(self) -> tuple[int, int]:
        """The worker that has the model, and its number there."""
        worker = self._backend.worker
        with self._lock:
            if not self._number or self._generation != worker.generation or not worker.is_alive:
                answer = self._build()
                self._number, self._generation = int(answer["model"]), worker.generation
            return self._generation, self._number

    def _build(self) -> dict[str, Any]:
        request = {"do": "compile", "chip": self._backend.chip, "quantized": self._is_quantized, "export": ""}
        worker, target = self._backend.worker, self._file
        if target is None:
            return worker.ask(request, self._onnx)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                made = Path(folder, "model.rknn")
                answer = worker.ask({**request, "export": str(made.resolve())}, self._onnx)
                made.replace(target)
        except OSError as error:
            raise ProviderError(
                f"{target} cannot be written: {error}; name another folder in the npu option 'rockchip_export'",
                device=self._backend.device.qualified_name,
            ) from None
        _log.info("%s is written", target)
        self._file = None  # a build in another worker makes the same
        return answer

    def run(self, message: dict[str, Any], cancel: Any) -> None:
        """Run once; if the worker goes in the middle, once more in another one."""
        worker = self._backend.worker
        for attempt in (1, 2):
            try:
                generation, number = self.make_ready()
                worker.ask({**message, "model": number}, generation=generation, cancelled=lambda: cancel.is_set)
            except WorkerGoneError as error:
                if attempt == 2:
                    raise
                _log.warning("%s; the run is repeated in another one", error)
            else:
                return

    def new_execution(self) -> Execution:
        return RockchipExecution(self)

    def close(self) -> None:
        worker = self._backend.worker
        with self._lock:
            number, self._number = self._number, 0
            if number and self._generation == worker.generation and worker.is_alive:
                try:
                    worker.ask({"do": "release", "model": number}, generation=self._generation)
                except ProviderError as error:  # what a worker that has gone held is free
                    _log.info("a model could not be released: %s", error)


class RockchipExecution(Execution):
    """Shared memory for one request."""

    def __init__(self, subgraph: RockchipSubgraph) -> None:
        self._subgraph = subgraph
        self._memory: shared_memory.SharedMemory | None = None

    def run(self, bindings: Bindings) -> None:
        subgraph, cancel = self._subgraph, bindings.cancel
        if cancel.is_set:
            raise CancelledError(f"the run was cancelled before '{subgraph.span}'")
        outputs: list[BoundTensor] = []
        for target in bindings.outputs:
            if target is None:
                raise UnsupportedError("the RKNN simulator has fixed shapes, every output must be bound")
            outputs.append(target)
        described, total = _laid_out((*bindings.inputs, *outputs))
        memory = self._room(total)
        count = len(bindings.inputs)
        for tensor, place in zip(bindings.inputs, described[:count], strict=True):
            _bytes_of(tensor, memory, place)[...] = _own(tensor)
        start = time.perf_counter_ns()
        request = {"do": "run", "memory": memory.name, "inputs": described[:count], "outputs": described[count:]}
        subgraph.run(request, cancel)
        end = time.perf_counter_ns()
        for tensor, place in zip(outputs, described[count:], strict=True):
            _own(tensor)[...] = _bytes_of(tensor, memory, place)
        if cancel.is_set:
            raise CancelledError(f"the run was cancelled during '{subgraph.span}'")
        if bindings.profile is not None:
            bindings.profile(subgraph.span, subgraph.sources, start, end)

    def close(self) -> None:
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()
            memory.unlink()

    def _room(self, nbytes: int) -> shared_memory.SharedMemory:
        if self._memory is None or self._memory.size < nbytes:
            self.close()
            self._memory = _shared(nbytes)
        return self._memory


def _shared(nbytes: int) -> shared_memory.SharedMemory:
    """Shared memory that is there: without being reserved, memory that is missing would end the process on a write."""
    memory = None
    try:
        memory = shared_memory.SharedMemory(create=True, size=nbytes)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(memory._fd, 0, nbytes)  # type: ignore[attr-defined]
    except OSError as error:
        if memory is not None:
            memory.close()
            memory.unlink()
        raise OutOfMemoryError(
            f"there are no {nbytes} bytes of shared memory for the tensors of a run ({error}); "
            "make room in /dev/shm, or give the container a larger one (docker: --shm-size)"
        ) from None
    return memory


def _laid_out(tensors: Sequence[BoundTensor]) -> tuple[list[dict[str, Any]], int]:
    """Where each tensor lies in the shared memory, in the words of the protocol, and how much memory that is."""
    described: list[dict[str, Any]] = []
    end = 0
    for tensor in tensors:
        described.append({"shape": list(tensor.shape), "dtype": tensor.dtype.numpy.str, "offset": end})
        end += -(-tensor.nbytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    return described, max(end, 1)


def _bytes_of(tensor: BoundTensor, memory: shared_memory.SharedMemory, place: dict[str, Any]) -> Any:
    assert memory.buf is not None
    return np.frombuffer(memory.buf, np.uint8, tensor.nbytes, place["offset"])


def _own(tensor: BoundTensor) -> Any:
    return np.frombuffer(memoryview((ctypes.c_uint8 * tensor.nbytes).from_address(tensor.address)), np.uint8)

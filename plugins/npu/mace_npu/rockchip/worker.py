"""The process that runs rknn-toolkit2.  It is started with the Python of the toolkit's environment and knows nothing of
MACE but ``wire``, which lies beside this file."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
import traceback
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import Any, BinaryIO

wire = importlib.import_module("wire")


class Worker:
    """Compiled models by number."""

    def __init__(self) -> None:
        import numpy
        from rknn.api import RKNN  # type: ignore[import-not-found]  # it lives in another environment

        self._numpy = numpy
        self._toolkit = RKNN
        self._models: dict[int, Any] = {}
        self._next = 1

    def handle(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """The answer to one request."""
        return getattr(self, f"do_{request['do']}")(request, payload)  # type: ignore[no-any-return]

    def do_compile(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Build an ONNX model for a chip, write the file for the chip if it is wanted, and make the simulator ready."""
        toolkit = self._toolkit(verbose=False)
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "model.onnx")
                path.write_bytes(payload)
                level = (
                    2 if request["quantized"] else 3
                )  # as the toolkit itself advises for results close to the model's
                self._expect(toolkit.config(target_platform=request["chip"], optimization_level=level), "config")
                self._expect(toolkit.load_onnx(model=str(path)), "load_onnx")
                self._expect(toolkit.build(do_quantization=False), "build")
                if request["export"]:
                    self._expect(toolkit.export_rknn(request["export"]), "export_rknn")
                self._expect(toolkit.init_runtime(), "init_runtime")
        except BaseException:
            toolkit.release()
            raise
        number, self._next = self._next, self._next + 1
        self._models[number] = toolkit
        return {"model": number}

    def do_run(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Run a model on tensors in shared memory, and write its results there."""
        memory = shared_memory.SharedMemory(name=request["memory"])
        resource_tracker.unregister(memory._name, "shared_memory")  # type: ignore[attr-defined]  # the driver's to remove
        try:
            inputs = [self._tensor(memory, described).copy() for described in request["inputs"]]
            layouts = ["nchw"] * len(inputs)
            results = self._models[request["model"]].inference(inputs=inputs, data_format=layouts)
            if results is None or len(results) != len(request["outputs"]):
                raise RuntimeError("inference gave no results")
            for described, result in zip(request["outputs"], results):  # noqa: B905  # the toolkit's Python may be 3.9
                target = self._tensor(memory, described)
                if result.size != target.size:
                    raise RuntimeError(f"a result has {result.shape} where {target.shape} was expected")
                target[...] = result.reshape(target.shape)
                del target
        finally:
            memory.close()
        return {}

    def do_release(self, request: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Free a model."""
        model = self._models.pop(request["model"], None)
        if model is not None:
            model.release()
        return {}

    def _tensor(self, memory: shared_memory.SharedMemory, described: dict[str, Any]) -> Any:
        return self._numpy.ndarray(
            described["shape"], self._numpy.dtype(described["dtype"]), memory.buf, described["offset"]
        )

    @staticmethod
    def _expect(code: int, call: str) -> None:
        if code != 0:
            raise RuntimeError(f"rknn-toolkit2's {call} returned {code}")


def main() -> None:
    """Serve until the driver closes the pipe.  What the toolkit prints goes to standard error."""
    answers: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    try:
        worker = Worker()
        toolkit = _toolkit_version()
    except BaseException as error:
        wire.send(answers, {"ok": False, "error": f"{type(error).__name__}: {error}"})
        return
    wire.send(answers, {"ok": True, "protocol": wire.VERSION, "toolkit": toolkit})
    while True:
        try:
            request, payload = wire.receive(requests)
        except wire.WireError:
            return
        try:
            answer = {"ok": True, **worker.handle(request, payload)}
        except Exception as error:
            traceback.print_exc()
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        wire.send(answers, answer)


def _toolkit_version() -> str:
    from importlib.metadata import version

    with contextlib.suppress(Exception):
        return version("rknn-toolkit2")
    return "of unknown version"


if __name__ == "__main__":
    main()

"""The part of the toolkit's interface that the worker uses.  The file that ``RKNN_STAND_IN`` names says what is to go
wrong: ``crash``, ``crash once``, ``crash in build``, ``hang``, ``refuse``, or nothing."""

import os
import signal
import sys
import time
from pathlib import Path


def _order() -> str:
    path = Path(os.environ["RKNN_STAND_IN"])
    order = path.read_text().strip()
    if order == "crash once":
        path.write_text("")
    return order


class RKNN:
    def __init__(self, verbose: bool = False) -> None:
        sys.stdout.write("the toolkit prints what nobody asked for\n")

    def config(self, target_platform: str, optimization_level: int) -> int:
        self._level = optimization_level
        return 0

    def load_onnx(self, model: str) -> int:
        import onnx
        import onnxruntime

        for node in onnx.load(model).graph.node:  # as the toolkit does
            if node.op_type == "DequantizeLinear" and not (len(node.input) == 3 and self._level == 2):
                raise IndexError("list index out of range")
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        return 0

    def build(self, do_quantization: bool) -> int:
        order = _order()
        if order == "crash in build":
            os.kill(os.getpid(), signal.SIGSEGV)
        return -1 if order == "refuse" else 0

    def export_rknn(self, export_path: str) -> int:
        Path(export_path).write_bytes(b"RKNN of the stand-in")
        return 0

    def init_runtime(self) -> int:
        return 0

    def inference(self, inputs: list, data_format: list) -> list:
        order = _order()
        if order in ("crash", "crash once"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if order == "hang":
            time.sleep(3600)
        names = [each.name for each in self._session.get_inputs()]
        return self._session.run(None, dict(zip(names, inputs, strict=True)))

    def release(self) -> None:
        self._session = None

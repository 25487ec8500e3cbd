"""The part of the toolkit's interface that the worker uses.  The file that ``RKNN_STAND_IN`` names says what is to go
wrong: ``crash``, ``crash once``, ``hang``, ``refuse``, or nothing."""

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

    def config(self, target_platform: str) -> int:
        return 0

    def load_onnx(self, model: str) -> int:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        return 0

    def build(self, do_quantization: bool) -> int:
        return -1 if _order() == "refuse" else 0

    def init_runtime(self) -> int:
        return 0

    def inference(self, inputs: list, data_format: list) -> list:
        order = _order()
        if order.startswith("crash"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if order == "hang":
            time.sleep(3600)
        names = [each.name for each in self._session.get_inputs()]
        return self._session.run(None, dict(zip(names, inputs, strict=True)))

    def release(self) -> None:
        self._session = None

"""Builds one graph through libQnnSaver.so, which writes what it understood to the current folder."""

import sys
from pathlib import Path

import numpy as np
from mace_hexagon.builder import build
from mace_hexagon.description import Encoding, QOp, QTensor
from mace_hexagon.qnn.handles import GraphSettings, QnnDevice
from mace_hexagon.qnn.interface import load
from mace_hexagon.qnn.marshal import Marshal
from mace_hexagon.qnn.profiling import QnnProfile
from mace_hexagon.qnn.types import MEMORY_HANDLE, DataType, Tensor, TensorKind

from mace_core.errors import ProviderError


def main(folder: str) -> None:
    device = QnnDevice(load(Path(folder, "libQnnSaver.so")), "saver")
    x_encoding = Encoding(np.array([0.5], np.float32), np.array([7], np.int32))
    y_encoding = Encoding(np.array([0.25], np.float32), np.array([128], np.int32))
    per_channel = Encoding(np.array([0.125, 0.0625], np.float32), np.array([0, 3], np.int32), 3)
    x = QTensor("x", DataType.UFIXED_POINT_8, (1, 6, 5, 3), TensorKind.APP_WRITE, x_encoding)
    weights = np.arange(2 * 2 * 3 * 2, dtype=np.int8).reshape(2, 2, 3, 2)
    w = QTensor("w", DataType.SFIXED_POINT_8, (2, 2, 3, 2), TensorKind.STATIC, per_channel, weights)
    y = QTensor("y", DataType.UFIXED_POINT_8, (1, 5, 4, 2), TensorKind.NATIVE, y_encoding)
    z = QTensor("z", DataType.UFIXED_POINT_8, (1, 5, 4, 2), TensorKind.APP_READ, y_encoding)
    convolution = QOp(
        *("Conv2d", "convolution", [x, w], [y]),
        {"stride": np.array([1, 1], np.uint32), "pad_amount": np.array([[0, 0], [0, 0]], np.uint32)},
    )
    clip = QOp("ReluMinMax", "clip", [y], [z], {"min_value": np.float32(-1.5), "max_value": np.float32(6)})
    context = device.create_context()
    build(context, "graph", [convolution, clip], [x], [z], GraphSettings(half_precision=False))
    a = QTensor("a", DataType.UFIXED_POINT_8, (1, 5, 4, 2), TensorKind.APP_WRITE, y_encoding)
    again = QOp("ReluMinMax", "again", [a], [z], clip.params)
    built = build(context, "tuned", [again], [a], [z], GraphSettings(True, 3, 4, 2))
    profile = QnnProfile(device, "detailed")
    marshal = Marshal()
    read, written = (Tensor * 1)(marshal.tensor(a)), (Tensor * 1)(marshal.tensor(z))
    read[0].any.v1.memory_type = MEMORY_HANDLE
    for attempt in (lambda: built.graph.execute(read, written, profile.handle), profile.events):
        try:
            attempt()
        except ProviderError as error:
            sys.stdout.write(f"{error}\n")
    profile.close()
    context.release()
    device.close()


if __name__ == "__main__":
    main(sys.argv[1])

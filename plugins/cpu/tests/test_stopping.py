"""Every kind of kernel hears that a run is cancelled, also in the middle of one long step or of a single unit of work.

Each case would compute for many seconds or for hours; the flag is set once it is at work.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from mace_cpu.shared.program import assemble
from onnx import helper, numpy_helper

from mace_core import Session
from mace_core.errors import CancelledError
from mace_core.provider.execution import CancelFlag
from mace_core.testing.models import PP_OCR_REC, find_packaged_model, mobilenet_v2, sample_image

Array = npt.NDArray[Any]

BEGUN_SECONDS = 0.2
MOST_CPU_SECONDS = 4.0
"""From the flag on, by all threads of this process together."""

PRIME = 1_000_003


def zeros(*shape: int, dtype: str = "float32") -> Array:
    return np.zeros(shape, dtype)


def far_boxes(count: int) -> Array:
    """Boxes of which no two overlap."""
    corners = np.arange(count, dtype=np.float32)[:, None] * 4
    return (corners + np.float32([0, 0, 1, 1]))[None]


def long_cases() -> dict[str, tuple[str, dict[str, Any], dict[str, Array], tuple[str, ...]]]:
    """Name of the kernel -> operator, attributes, inputs, and which of them are constants."""
    third, half = zeros(12, 12, 12, 12), zeros(50, 50, 50, 50)
    image, window = zeros(1, 1, 1501, 1501), {"kernel_shape": [1001, 1001], "pads": [500] * 4}
    wide = zeros(1, 16, 512, 512)
    tokens = np.ones((1, 1_000_000), np.int64)
    grams = 50_000
    ngrams = {
        "mode": "TF", "min_gram_length": 1, "max_gram_length": 1, "max_skip_count": 0,
        "ngram_counts": [0], "ngram_indexes": [0] * grams, "pool_int64s": list(range(grams)),
    }  # fmt: skip
    double = "float64"
    wide64, taps64, matrix64 = wide.astype(double), zeros(16, 16, 51, 51, dtype=double), zeros(4000, 4000, dtype=double)
    return {
        "einsum": ("Einsum", {"equation": "abcd,efgh,ijkl->a"}, {"x": third, "y": third, "z": third}, ()),
        "einsum of two": ("Einsum", {"equation": "abcd,efgh->a"}, {"x": half, "y": half}, ()),
        "transform of a prime": ("DFT", {"axis": 1}, {"x": zeros(1, PRIME, 1)}, ()),
        "transform of a large factor": ("DFT", {"axis": 1}, {"x": zeros(1, 2 * PRIME, 1)}, ()),
        "transforms of frames": (
            "STFT", {}, {"x": zeros(1, PRIME, 1), "step": np.array(1), "w": np.ones(PRIME, np.float32)}, ("step", "w"),
        ),
        "determinant": ("Det", {}, {"x": np.eye(5000, dtype=np.float32)}, ()),
        "suppression": (
            "NonMaxSuppression", {},
            {"b": far_boxes(400_000), "s": np.ones((1, 1, 400_000), np.float32), "m": np.array([400_000])}, ("m",),
        ),
        "unique": ("Unique", {"axis": 0}, {"x": zeros(30_000, 6000, dtype="uint8")}, ()),
        "top k": ("TopK", {}, {"x": np.arange(30_000_000, dtype=np.float32), "k": np.array([15_000_000])}, ("k",)),
        "regions": (
            "RoiAlign", {"output_height": 64, "output_width": 64, "sampling_ratio": 4096},
            {"x": zeros(1, 1, 8, 8), "r": np.float32([[0, 0, 8, 8]]), "i": np.zeros(1, np.int64)}, (),
        ),
        "pooling": ("MaxPool", window, {"x": image}, ()),
        "pooling of float64": ("MaxPool", window, {"x": image.astype(double)}, ()),
        "average": ("AveragePool", window, {"x": image}, ()),
        "pooling of many channels": ("MaxPool", window, {"x": zeros(1, 16, 1501, 1501)}, ()),
        "n-grams": ("TfIdfVectorizer", ngrams, {"x": tokens}, ()),
        "convolution": ("Conv", {}, {"x": wide, "w": np.ones((64, 16, 151, 151), np.float32)}, ("w",)),
        "convolution of few channels": ("Conv", {}, {"x": zeros(1, 1, 2000, 2000), "w": zeros(8, 1, 301, 301)}, ("w",)),
        "depthwise convolution": (
            "Conv", {"group": 16}, {"x": zeros(1, 16, 1500, 1500), "w": zeros(16, 1, 401, 401)}, ("w",),
        ),
        "convolution of computed weights": ("Conv", {}, {"x": wide, "w": zeros(64, 16, 101, 101)}, ()),
        "convolution of float64": ("Conv", {}, {"x": wide64, "w": taps64}, ()),
        "transposed convolution": (
            "ConvTranspose", {}, {"x": wide64, "w": taps64}, (),
        ),
        "convolution of integers": (
            "ConvInteger", {}, {"x": wide.astype(np.uint8), "w": zeros(16, 16, 51, 51, dtype="uint8")}, (),
        ),
        "deformed convolution": (
            "DeformConv", {},
            {"x": zeros(1, 128, 80, 80), "w": np.ones((128, 128, 9, 9), np.float32), "o": zeros(1, 162, 72, 72)}, (),
        ),
        "product": ("MatMul", {}, {"x": zeros(8192, 8192), "w": zeros(8192, 8192)}, ()),
        "product of float64": ("MatMul", {}, {"x": matrix64, "w": matrix64}, ()),
        "product of integers": (
            "MatMulInteger", {},
            {"x": zeros(6000, 6000, dtype="uint8"), "w": zeros(6000, 6000, dtype="uint8")}, (),
        ),
        "recurrent": (
            "LSTM", {"hidden_size": 2048},
            {"x": zeros(3000, 1, 1), "w": zeros(1, 8192, 1), "r": zeros(1, 8192, 2048)}, (),
        ),
        "recurrent of float64": (
            "GRU", {"hidden_size": 512},
            {"x": zeros(20_000, 1, 1, dtype=double), "w": zeros(1, 1536, 1, dtype=double),
             "r": zeros(1, 1536, 512, dtype=double)}, (),
        ),
        "sampling": (
            "GridSample", {"mode": "cubic"}, {"x": zeros(1, 4000, 8, 8), "g": zeros(1, 200, 200, 2)}, (),
        ),
        "attention": ("Attention", {}, {name: zeros(1, 1, 150_000, 64) for name in "qkv"}, ()),
    }  # fmt: skip


NAMES = (
    *("einsum", "einsum of two", "transform of a prime", "transform of a large factor", "transforms of frames"),
    *("determinant", "suppression", "unique", "top k", "regions", "pooling", "pooling of float64", "average"),
    *("pooling of many channels", "n-grams", "convolution", "convolution of few channels", "depthwise convolution"),
    *("convolution of computed weights", "convolution of float64", "transposed convolution"),
    *("convolution of integers", "deformed convolution", "product", "product of float64", "product of integers"),
    *("recurrent", "recurrent of float64", "sampling", "attention"),
)
"""Of the cases, whose inputs take hundreds of megabytes: whoever collects tests makes none."""


@pytest.mark.parametrize(
    ("name", "threads"),
    [
        pytest.param(name, 1 + index % 2, marks=[pytest.mark.full] if index % 3 else [])
        for index, name in enumerate(NAMES)
    ],
)
def test_a_run_that_is_cancelled_ends_soon(name: str, threads: int) -> None:
    cases = long_cases()
    assert tuple(cases) == NAMES
    op, attributes, inputs, constants = cases[name]
    del cases
    outputs = ["out", "where"] if op == "TopK" else ["out"]
    node = helper.make_node(op, list(inputs), outputs, name="long", **attributes)
    graph = helper.make_graph(
        [node],
        "long",
        [
            helper.make_tensor_value_info(key, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for key, array in inputs.items()
            if key not in constants
        ],
        [onnx.ValueInfoProto(name=output) for output in outputs],
        [numpy_helper.from_array(inputs[key], key) for key in constants],
    )
    opset = {"DFT": 19, "Attention": 23}.get(op, 21)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    feeds = {key: array for key, array in inputs.items() if key not in constants}
    flag = CancelFlag()
    with Session(model, devices=["cpu"], options={"cpu": {"threads": threads}}, strict=True, cache=False) as session:
        set_at: list[float] = []

        def cancel() -> None:
            set_at.append(time.process_time())
            flag.set()

        timer = threading.Timer(BEGUN_SECONDS, cancel)
        timer.start()
        with pytest.raises(CancelledError):
            session.run(feeds, cancel=flag)
        spent = time.process_time() - set_at[0]
        timer.join()
    assert spent < MOST_CPU_SECONDS


@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.full), 2])
@pytest.mark.parametrize("name", ["text", "pictures"])
def test_steps_computed_a_unit_at_a_time_give_the_same(
    name: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call of a kernel relies on nothing that an earlier call of the same chunk left behind."""
    model = mobilenet_v2() if name == "pictures" else str(find_packaged_model(*PP_OCR_REC))
    x = sample_image((1, 3, 224, 224) if name == "pictures" else (1, 3, 48, 100))

    def outputs() -> dict[str, Array]:
        options = {"cpu": {"threads": threads}}
        with Session(model, devices=["cpu"], options=options, strict=True, cache=False) as session:
            return dict(session.run({"x": x}))

    expected = outputs()
    monkeypatch.setattr(assemble, "LARGEST_PIECE_WORK", 1)
    for key, array in outputs().items():
        np.testing.assert_array_equal(array, expected[key])

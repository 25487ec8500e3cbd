"""Models whose shapes follow from data, run with many sizes in one session: the results are onnxruntime's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks.shapes import control_flow
from mace_core.session import Session

pytest.importorskip("mace_cpu", reason="needs the CPU provider")
ort = pytest.importorskip("onnxruntime")

Feeds = dict[str, np.ndarray[Any, Any]]
HEARD = 11
HEADS, HEAD = 2, 8


def merged_feeds(past: int, rng: np.random.Generator) -> Feeds:
    """A step of the merged decoder; the first one for a cache of length 0."""
    feeds: Feeds = {
        "ids": rng.integers(0, 32, (1, 1)),
        "encoded": rng.standard_normal((1, HEARD, HEADS * HEAD)).astype(np.float32),
        "use_cache_branch": np.array([past > 0]),
    }
    for layer in range(2):
        for kind in ("key", "value"):
            for part, length in (("", past), (".cross", HEARD)):
                shape = (1, HEADS, length, HEAD)
                feeds[f"past.{layer}{part}.{kind}"] = rng.standard_normal(shape).astype(np.float32)
    return feeds


def selecting_feeds(rows: int, rng: np.random.Generator) -> Feeds:
    return {"x": rng.standard_normal((rows, 16)).astype(np.float32), "scores": rng.random(rows).astype(np.float32)}


def detecting_feeds(count: int, rng: np.random.Generator) -> Feeds:
    boxes = rng.random((1, count, 4)).astype(np.float32)
    boxes[..., 2:] = boxes[..., :2] + 0.2 * boxes[..., 2:]
    return {"boxes": boxes, "scores": rng.random((1, 4, count)).astype(np.float32)}


def unique_feeds(length: int, rng: np.random.Generator) -> Feeds:
    return {"ids": rng.integers(0, 40, length)}


CASES: dict[str, tuple[Callable[[], onnx.ModelProto], Callable[[int, np.random.Generator], Feeds], list[int]]] = {
    "merged decoder": (
        lambda: control_flow.merged_decoder(2, HEADS * HEAD, HEADS, 32),
        merged_feeds,
        [0, 1, 2, 3, 4, 5, 31, 64, 65, 7, 0, 1, 200, 6],
    ),
    "selecting": (lambda: control_flow.selecting(16), selecting_feeds, [20, 20, 20, 31, 8, 1, 2, 3, 100, 0, 64, 20]),
    "detecting": (control_flow.detecting, detecting_feeds, [20, 20, 31, 8, 1, 2, 3, 300, 64, 20]),
    "unique": (lambda: control_flow.unique_rows(16, 40), unique_feeds, [20, 20, 31, 8, 1, 2, 3, 100, 0, 64, 20]),
}


@pytest.mark.parametrize("name", CASES)
def test_many_sizes_agree_with_onnxruntime(name: str) -> None:
    make, feeds_of, sizes = CASES[name]
    built = make()
    reference = ort.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in reference.get_outputs()]
    rng = np.random.default_rng(1)
    with Session(built, devices=["cpu"], strict=True, options={"cpu": {"threads": 2}}) as session:
        for size in sizes:
            feeds = feeds_of(size, rng)
            found = session.run(feeds)
            for output, wanted in zip(names, reference.run(None, feeds), strict=True):
                np.testing.assert_allclose(
                    found[output], wanted, rtol=1e-4, atol=1e-5, err_msg=f"{output}, size {size}"
                )


def test_an_unchanged_input_that_is_a_result_is_a_copy() -> None:
    """Keys that an If hands through are the caller's to change; what was fed stays as it was."""
    make, feeds_of, _ = CASES["merged decoder"]
    rng = np.random.default_rng(2)
    with Session(make(), devices=["cpu"], strict=True) as session:
        for past in (3, 4, 5, 5):
            feeds = feeds_of(past, rng)
            kept = {name: array.copy() for name, array in feeds.items()}
            for array in session.run(feeds).values():
                array[...] = 9
            for name, array in feeds.items():
                np.testing.assert_array_equal(array, kept[name])


def test_a_shape_that_does_not_fit_is_refused_after_many_that_do() -> None:
    make, feeds_of, _ = CASES["merged decoder"]
    rng = np.random.default_rng(3)
    with Session(make(), devices=["cpu"], strict=True) as session:
        for past in (3, 4, 5, 6):
            session.run(feeds_of(past, rng))
        feeds = feeds_of(7, rng)
        feeds["past.1.key"] = feeds["past.1.key"][:, :, :6]
        with pytest.raises(ValueError, match="past"):
            session.run(feeds)
        feeds = feeds_of(8, rng)
        feeds["past.0.key"] = np.zeros((1, HEADS + 1, 8, HEAD), np.float32)
        with pytest.raises(ValueError, match=r"past\.0\.key"):
            session.run(feeds)
        assert session.run(feeds_of(9, rng))["logits"].shape == (1, 1, 32)

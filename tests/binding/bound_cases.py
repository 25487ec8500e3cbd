"""Models whose state goes from run to run, and streams whose state goes through the caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import bound_models
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from benchmarks.shapes import control_flow
from benchmarks.shapes.decoder import decoder
from mace_core import Binding, Session

Array = npt.NDArray[Any]


CLOSE = {"rtol": 1e-4, "atol": 2e-5}


LAYERS = 2


class Case:
    """A model with a cache: what to bind, what a step is fed, and what a cache begins with."""

    def __init__(
        self,
        path: Path,
        pairs: Mapping[str, str],
        feeds: Callable[[int, int, np.random.Generator], dict[str, Array]],
        start: Mapping[str, Array],
        grows: bool = True,
    ) -> None:
        self.path, self.pairs, self.feeds, self.start, self.grows = path, pairs, feeds, start, grows
        self.session = Session(path, devices=["cpu"], strict=True)
        self.judge = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def plain(folder: Path) -> Case:
    path = folder / "decoder.onnx"
    decoder(path, LAYERS)
    pairs = {f"past_{kind}_{layer}": f"present_{kind}_{layer}" for layer in range(LAYERS) for kind in "kv"}
    start = {name: np.zeros((1, 4, 0, 32), np.float32) for name in pairs}
    # the benchmark's decoder takes one token at a time
    return Case(path, pairs, lambda past, n, random: {"ids": random.integers(0, 256, (1, 1))}, start)


def merged(folder: Path) -> Case:
    path = folder / "merged.onnx"
    onnx.save(control_flow.merged_decoder(), path)
    kinds = [f"{layer}{part}.{kind}" for layer in range(2) for part in ("", ".cross") for kind in ("key", "value")]
    pairs = {f"past.{name}": f"present.{name}" for name in kinds}
    encoded = np.random.default_rng(1).standard_normal((1, 9, 128)).astype(np.float32)

    def feeds(past: int, n: int, random: np.random.Generator) -> dict[str, Array]:
        return {"ids": random.integers(0, 256, (1, n)), "encoded": encoded, "use_cache_branch": np.array([past > 0])}

    return Case(path, pairs, feeds, {name: np.zeros((1, 4, 0, 32), np.float32) for name in pairs})


def grouped(folder: Path) -> Case:
    path = folder / "grouped.onnx"
    onnx.save(bound_models.grouped_decoder(), path)

    def feeds(past: int, n: int, random: np.random.Generator) -> dict[str, Array]:
        x = random.standard_normal((1, n, bound_models.WIDTH)).astype(np.float32)
        return {"x": x, "seqlens_k": np.array([past + n - 1], np.int32), "total": np.array([past + n], np.int32)}

    pairs = {"past_k": "present_k", "past_v": "present_v"}
    return Case(path, pairs, feeds, {name: np.zeros((1, 2, 0, 8), np.float32) for name in pairs})


def masked(folder: Path, batch: int = 2) -> Case:
    path = folder / "masked.onnx"
    onnx.save(bound_models.masked_decoder(), path)

    def feeds(past: int, n: int, random: np.random.Generator) -> dict[str, Array]:
        x = random.standard_normal((batch, n, bound_models.WIDTH)).astype(np.float32)
        return {"x": x, "mask": np.ones((batch, past + n), np.float32)}

    pairs = {"past_k": "present_k", "past_v": "present_v"}
    return Case(path, pairs, feeds, {name: np.zeros((batch, 2, 0, 8), np.float32) for name in pairs})


def recurrent(folder: Path) -> Case:
    path = folder / "recurrent.onnx"
    onnx.save(bound_models.recurrent(), path)

    def feeds(past: int, n: int, random: np.random.Generator) -> dict[str, Array]:
        return {"x": random.standard_normal((n, 2, bound_models.DEPTH)).astype(np.float32)}

    start = {"h": np.zeros((1, 2, bound_models.DEPTH), np.float32)}
    return Case(path, {"h": "h_next"}, feeds, start, grows=False)


def scattering(op_type: str) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        path = folder / f"{op_type}.onnx"
        onnx.save(bound_models.scattering_decoder(op_type), path)

        def feeds(past: int, n: int, random: np.random.Generator) -> dict[str, Array]:
            x = random.standard_normal((1, n, bound_models.DEPTH)).astype(np.float32)
            rows = (past + np.arange(n)) % bound_models.LONGEST
            if op_type == "TensorScatter":
                at = np.array([min(past, bound_models.LONGEST - n)])
            elif op_type == "ScatterElements":
                at = np.broadcast_to(rows[None, :, None], x.shape).copy()
            else:
                at = np.stack([np.zeros(n, np.int64), rows], -1)[None]
            return {"x": x, "at": at}

        start = {"cache": np.zeros((1, bound_models.LONGEST, bound_models.DEPTH), np.float32)}
        return Case(path, {"cache": "next"}, feeds, start, grows=False)

    return make


CASES: dict[str, Callable[[Path], Case]] = {
    "decoder": plain,
    "merged": merged,
    "grouped": grouped,
    "masked": masked,
    "recurrent": recurrent,
    **{op_type: scattering(op_type) for op_type in ("TensorScatter", "ScatterElements", "ScatterND")},
}


JUDGED = frozenset(CASES) - {"TensorScatter"}
"""onnxruntime has no kernel for the others."""


class Passing:
    """A stream whose state goes through the caller: on a session, or on onnxruntime."""

    def __init__(self, case: Case, run: Callable[[dict[str, Array]], Mapping[str, Array]]) -> None:
        self._case, self._run = case, run
        self.state = dict(case.start)

    @staticmethod
    def on_session(case: Case) -> Passing:
        return Passing(case, case.session.run)

    @staticmethod
    def on_judge(case: Case) -> Passing:
        names = [output.name for output in case.judge.get_outputs()]
        return Passing(case, lambda feeds: dict(zip(names, case.judge.run(None, feeds), strict=True)))

    def run(self, feeds: dict[str, Array]) -> Mapping[str, Array]:
        found = self._run({**feeds, **self.state})
        self.state = {source: found[output] for source, output in self._case.pairs.items()}
        return found


def follow(case: Case, bound: Binding, counts: Sequence[int], *, judged: bool, seed: int = 0) -> int:
    """Run a stream both ways, comparing every result and the state at the end; returns the length."""
    random = np.random.default_rng(seed)
    passing = Passing.on_session(case)
    judge = Passing.on_judge(case) if judged else None
    past = 0
    for count in counts:
        feeds = case.feeds(past, count, random)
        found, expected = bound.run(feeds), passing.run(feeds)
        assert not set(found) & set(case.pairs.values())
        for name, array in found.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=f"{name} after {past} + {count}")
        if judge is not None:
            theirs = judge.run(feeds)
            for name, array in found.items():
                np.testing.assert_allclose(array, theirs[name], **CLOSE, err_msg=name)
        past += next(iter(feeds.values())).shape[0 if "h" in case.pairs else 1]
    for source, output in case.pairs.items():
        np.testing.assert_array_equal(bound.read(output), passing.state[source], err_msg=output)
        np.testing.assert_array_equal(bound.read(source), passing.state[source], err_msg=source)
    return past

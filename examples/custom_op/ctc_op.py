"""A custom operator: greedy CTC decoding (Graves et al., ICML 2006), from probabilities to text."""

import numpy as np

import mace_core as mace
from mace_core.tensor import DType, TensorType


def one_text_per_line(probabilities: TensorType, *, alphabet: str) -> TensorType:
    return TensorType(DType.STRING, probabilities.concrete_shape[:1])


@mace.custom_op("com.example", "CtcDecode", outputs=("text",), shape=one_text_per_line)
def ctc_decode(probabilities: np.ndarray, *, alphabet: str) -> np.ndarray:
    """(lines, steps, classes) -> (lines,): class 0 is the blank, class k the k-th character of ``alphabet``."""
    best = probabilities.argmax(axis=2)
    starts = np.diff(best, axis=1, prepend=0) != 0
    kept = [line[start & (line > 0)] for line, start in zip(best, starts, strict=True)]
    return np.array(["".join(alphabet[k - 1] for k in line) for line in kept], dtype=object)

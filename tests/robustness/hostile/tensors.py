"""Initializers that contradict themselves, lie about their size, or keep their values where they should not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hostile.bases import F32, model_of, value
from hostile.case import Case, of_bytes, of_model

_LARGE = (2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1)


def tensor_cases() -> Iterator[Case]:
    """All families of this module."""
    yield from _shapes()
    yield from _payloads()
    yield from _sparse()
    yield from _external()
    yield from _constant_nodes()


def _with(tensor: TensorProto) -> onnx.ModelProto:
    """``y = x + w`` with ``w`` as given."""
    node = helper.make_node("Add", ["x", "w"], ["y"], name="sum")
    return model_of([node], [value("x", F32, [2, 2])], [value("y", tensor.data_type or F32)], {"w": tensor})


def _tensor(dims: list[int], kind: int = F32, raw: bytes | None = None) -> TensorProto:
    tensor = TensorProto(name="w", data_type=kind)
    tensor.dims.extend(dims)
    if raw is not None:
        tensor.raw_data = raw
    return tensor


def _shapes() -> Iterator[Case]:
    for size in _LARGE:
        yield of_model("huge dims", f"[{size}]", _with(_tensor([size], raw=b"\0" * 16)))
        yield of_model("huge dims", f"[{size}, {size}]", _with(_tensor([size, size], raw=b"\0" * 16)))
    wrapping = ([2**32, 2**32], [2**31, 2**33], [2**62, 4], [2**61, 8, 1], [3, 2**63 - 1], [2**33] * 5, [2**16] * 4)
    for dims in wrapping:  # the product is small modulo 2**64
        yield of_model("dims that overflow", str(dims), _with(_tensor(list(dims), raw=b"")))
        yield of_model("dims that overflow", f"{dims} as double", _with(_tensor(list(dims), TensorProto.DOUBLE, b"")))
    for dims in ([-1], [2, -2], [-(2**63)], [-1, -4], [0, -1], [2, -2, -1]):
        yield of_model("negative sizes", str(dims), _with(_tensor(list(dims), raw=b"\0" * 16)))
    for rank in (9, 33, 65, 500, 20_000):
        yield of_model("many dims", f"rank {rank}", _with(_tensor([1] * rank, raw=b"\0" * 4)))
    for shape in ([2**40, 2], [-5, 2], [2**62, 2**62], [0, 2], [1] * 70):
        model = model_of([helper.make_node("Relu", ["x"], ["y"], name="relu")], [value("x", F32, shape)], [value("y")])
        yield of_model("odd input shapes", str(shape)[:40], model)


def _payloads() -> Iterator[Case]:
    for length in (0, 1, 15, 17, 4096):
        yield of_model("raw data of another length", f"{length} bytes", _with(_tensor([2, 2], raw=b"\0" * length)))
    for kind in (0, 17, 20, 23, 25, 26, 99, 2**31 - 1, -1):
        yield of_model("element types", f"type {kind}", _with(_tensor([2, 2], kind, b"\0" * 16)))
    for kind in range(1, 24):
        yield of_model("element types", f"sum with type {kind}", _with(_tensor([2, 2], kind, b"\x7f" * 64)))
    for field, items in (
        ("float_data", [1.0]),
        ("int32_data", [1]),
        ("double_data", [1.0]),
        ("string_data", [b"\xff"]),
    ):
        tensor = _tensor([2, 2])
        getattr(tensor, field).extend(items)
        yield of_model("values in the wrong field", field, _with(tensor))
        tensor.raw_data = b"\0" * 16
        yield of_model("values held twice", field, _with(tensor))
    text = _tensor([2], TensorProto.STRING)
    text.string_data.extend([b"\xff\xfe", b"ok"])
    yield of_model("text that is not UTF-8", "a string tensor", _with(text))
    segmented = _tensor([2, 2])
    for begin, end in ((0, 4), (-1, 16), (-1000, 10**9), (-(2**63), 2**63 - 1), (-5, -50)):
        segmented.segment.begin, segmented.segment.end = begin, end
        yield of_model("segments", f"{begin} to {end}", _with(segmented))
    unnamed = _tensor([2, 2], raw=b"\0" * 16)
    unnamed.name = ""
    yield of_model("names", "an initializer without one", _with(unnamed))


def _sparse() -> Iterator[Case]:
    def made(dims: list[int], indices: list[int], count: int, name: str) -> Case:
        model = _with(_tensor([2, 2], raw=b"\0" * 16))
        del model.graph.initializer[:]
        sparse = model.graph.sparse_initializer.add()
        sparse.values.CopyFrom(numpy_helper.from_array(np.ones(count, np.float32), "w"))
        sparse.indices.CopyFrom(numpy_helper.from_array(np.array(indices, np.int64), "places"))
        sparse.dims.extend(dims)
        return of_model("sparse initializers", name, model)

    for size in _LARGE:
        yield made([size], [0], 1, f"one value in [{size}]")
        yield made([size, size], [size - 1, size - 1], 1, f"one value in [{size}, {size}]")
    yield made([2**32, 2**32], [0], 1, "a size that wraps to none")
    yield made([2, 2], [4], 1, "an index behind the end")
    yield made([2, 2], [-1], 1, "a negative index")
    yield made([2, 2], [0, 1], 1, "more indices than values")
    yield made([2, -2], [0], 1, "a negative size")
    yield made([], [0], 1, "no dimensions")
    yield made([0], [0], 1, "a value in nothing")
    yield made([2, 2], [3, 3], 2, "an index twice")
    many = _with(_tensor([2, 2], raw=b"\0" * 16))
    for number in range(200):  # each is allowed, all of them are not
        sparse = many.graph.sparse_initializer.add()
        sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), f"s{number}"))
        sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0]), f"i{number}"))
        sparse.dims.append(1 << 27)
    yield of_model("sparse initializers", "half a gigabyte two hundred times", many)


def _constant_nodes() -> Iterator[Case]:
    for attribute, content in (
        ("value_int", 2**63 - 1),
        ("value_floats", [float("nan")] * 3),
        ("value_string", b"\xff"),
    ):
        node = helper.make_node("Constant", [], ["y"], name="constant", **{attribute: content})
        yield of_model("constants", attribute, model_of([node], [], [value("y", 0)]))
    for dims in ([2**40], [-2], [2**32, 2**32]):
        node = helper.make_node("Constant", [], ["y"], name="constant", value=_tensor(dims, raw=b"\0" * 8))
        yield of_model("constants", f"dims {dims}", model_of([node], [], [value("y")]))


# --- values in other files -----------------------------------------------------------------------------------------


def _external() -> Iterator[Case]:
    places = ("../secret.bin", "/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/mem", "a/../../secret.bin", "",
              ".", "..", "model.onnx", "missing.bin", "\0", "C:\\secret", "//server/share", "x" * 5000, "sub", "~/x",
              "file:///etc/passwd", "ü.bin")  # fmt: skip
    for place in places:
        yield _external_case(f"location {place[:30]!r}", place)
    numbers = ("-1", "9999999999999999999999", "1e3", "0x10", "", "nan", "4", str(2**63 - 1), str(2**64), "-0", "٣",
               "1" * 5000)  # fmt: skip
    for number in numbers:
        yield _external_case(f"offset {number[:30]!r}", "w.bin", offset=number)
        yield _external_case(f"length {number[:30]!r}", "w.bin", length=number)
    yield _external_case("dims behind the end of the file", "w.bin", dims=[2**40])
    yield _external_case("dims that overflow", "w.bin", dims=[2**32, 2**32])
    yield _external_case("empty dims", "w.bin", dims=[0])
    if hasattr(os, "symlink"):
        for target in ("/etc/passwd", "/dev/zero", "../secret.bin", "w.bin", "nowhere", "link.bin", "w2.bin"):
            yield _external_case(f"link to {target}", "link.bin", prepare=_link("link.bin", target))
    if hasattr(os, "mkfifo"):
        yield _external_case("a pipe", "pipe", prepare=lambda folder: os.mkfifo(folder / "pipe"))
    yield _external_case("a folder", "folder", prepare=lambda folder: (folder / "folder").mkdir())
    yield _external_case("a huge file with holes", "holes", dims=[2**33], prepare=_holes)
    yield of_bytes("external data", "a model in memory only", lambda: _external_model("w.bin", [2, 2]))


def _external_model(location: str, dims: list[int], **entries: str) -> bytes:
    tensor = _tensor(dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=text)
    return _with(tensor).SerializeToString()


def _external_case(
    name: str,
    location: str,
    *,
    dims: list[int] | None = None,
    prepare: Callable[[Path], object] = lambda folder: None,
    **entries: str,
) -> Case:
    def write(folder: Path) -> Path:
        (folder / "inner").mkdir()
        (folder / "secret.bin").write_bytes(b"\1" * 64)
        inner = folder / "inner"
        (inner / "w.bin").write_bytes(b"\0" * 16)
        prepare(inner)
        path = inner / "model.onnx"
        path.write_bytes(_external_model(location, dims or [2, 2], **entries))
        return path

    return Case("external data", name, write)


def _link(name: str, target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).symlink_to(target)


def _holes(folder: Path) -> None:
    with (folder / "holes").open("wb") as file:
        file.truncate(2**35)


__all__ = ["tensor_cases"]

"""What a file that is not a model is instead, and what to do with it: judged by its first bytes and its name."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import NamedTuple

from mace_core.host.file_forms import SAVED_MODEL_GRAPH

SNIFFED_BYTES = 4096


class FileKind(NamedTuple):
    """``what`` follows "it is", ``advice`` says what to do now."""

    what: str
    advice: str


_EXPORT_TORCH = (
    "it has weights and no graph: load it into its module, and give mace_core.load_model(module, example_inputs), or "
    "save torch.export.export(module, inputs) as a .pt2 file"
)
_CONVERT_TF = (
    "give the folder of the SavedModel that it lies in; a frozen graph is converted by python -m tf2onnx.convert"
)
_WEIGHTS = "it has weights and no graph: export the model to ONNX (of transformers: optimum-cli export onnx)"
_PICKLE = (
    "reading it runs the code that it holds: load it yourself, and give mace_core.load_model the estimator, or write "
    "`mace --trust …`"
)
_LINK = "download the file itself, through the site's raw or download link"
_AS_INPUT = "a model's input is given beside the model (on the command line with --input)"

_MAGIC: tuple[tuple[int, bytes, FileKind], ...] = (
    (0, b"version https://git-lfs.github.com/spec/", FileKind(
        "a Git LFS pointer, not the file itself", "fetch the file with git lfs pull"
    )),
    (0, b"\x1f\x8b", FileKind("compressed with gzip", "unpack it with gunzip")),
    (0, b"BZh", FileKind("compressed with bzip2", "unpack it with bunzip2")),
    (0, b"\xfd7zXZ\x00", FileKind("compressed with xz", "unpack it with unxz")),
    (0, b"\x28\xb5\x2f\xfd", FileKind("compressed with Zstandard", "unpack it with unzstd")),
    (0, b"7z\xbc\xaf\x27\x1c", FileKind("a 7-Zip archive", "unpack it, and give the model in it")),
    (0, b"Rar!\x1a\x07", FileKind("a RAR archive", "unpack it, and give the model in it")),
    (257, b"ustar", FileKind("a tar archive", "unpack it with tar -xf, and give the model in it")),
    (4, b"TFL3", FileKind("a TensorFlow Lite model", "give it a name that ends in .tflite")),
    (4, b"ORTM", FileKind("a model in onnxruntime's ORT format", "give the .onnx file that it was made from")),
    (0, b"\x89HDF\r\n\x1a\n", FileKind("an HDF5 file, as Keras writes them", "give it a name that ends in .h5")),
    (0, b"GGUF", FileKind("a GGUF file of weights", _WEIGHTS)),
    (0, b"\x93NUMPY", FileKind("an array of numpy", _AS_INPUT)),
    (0, b"\xff\xd8\xff", FileKind("a JPEG picture", _AS_INPUT)),
    (0, b"\x89PNG\r\n\x1a\n", FileKind("a PNG picture", _AS_INPUT)),
    (0, b"GIF8", FileKind("a GIF picture", _AS_INPUT)),
    (8, b"WEBP", FileKind("a WebP picture", _AS_INPUT)),
    (8, b"WAVE", FileKind("a WAVE recording", "read it into an array, and save that with numpy.save for --input")),
    (0, b"%PDF", FileKind("a PDF document", "give an .onnx file")),
    (0, b"\x7fELF", FileKind("a program or a library", "give an .onnx file")),
    (0, b"MZ", FileKind("a Windows program or library", "give an .onnx file")),
    (0, b"ptrt", FileKind("a TensorRT engine", "give the .onnx file that it was built from")),
    (0, b"RKNN", FileKind("an RKNN model", "give the .onnx file that it was made from")),
    (0, b"7767517", FileKind("an ncnn model", "give the ONNX file that it was made from")),
)  # fmt: skip

_TORCH = FileKind("a PyTorch checkpoint", _EXPORT_TORCH)
_SUFFIXES: dict[str, FileKind] = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin"), _TORCH),
    ".pt2": FileKind(
        "no program of torch.export, whatever its name says", "save one with torch.export.save(program, path)"
    ),
    ".pb": FileKind("a TensorFlow graph by its name", _CONVERT_TF),
    **dict.fromkeys(
        (".h5", ".hdf5", ".keras"),
        FileKind("no Keras model, whatever its name says", "save one with model.save('model.keras')"),
    ),
    ".safetensors": FileKind("a file of weights (safetensors)", _WEIGHTS),
    ".mlmodel": FileKind("a Core ML model", "convert it with onnxmltools, or export the original to ONNX"),
    ".mlpackage": FileKind("a Core ML model", "export the original to ONNX"),
    ".pdmodel": FileKind("a Paddle model", "convert it with paddle2onnx"),
    ".pdiparams": FileKind("weights of a Paddle model", "convert the model with paddle2onnx"),
    ".caffemodel": FileKind("a Caffe model", "export the model to ONNX"),
    ".prototxt": FileKind("the text of a Caffe model", "export the model to ONNX"),
    ".mnn": FileKind("an MNN model", "give the ONNX file that it was made from"),
    ".param": FileKind("an ncnn model", "give the ONNX file that it was made from"),
    ".xml": FileKind("an OpenVINO model", "give the ONNX file that it was made from"),
    ".dlc": FileKind("a Qualcomm DLC model", "give the ONNX file that it was made from"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), FileKind("a Python pickle", _PICKLE)),
    ".onnx_data": FileKind("the weights of an ONNX model", "give the .onnx file beside it, which refers to them"),
    ".data": FileKind("the weights of an ONNX model by its name", "give the .onnx file that refers to them"),
}


def foreign_kind(head: bytes, path: Path | None = None) -> FileKind | None:
    """What a file is that begins with ``head``; None if nothing is known of it.

    Args:
        head: the first `SNIFFED_BYTES` of it, or all if it is shorter.
        path: its name, which is looked at where the content tells nothing.
    """
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_kind(head, path)
    if re.match(rb"\x80[\x02-\x05]", head):
        if path is not None and path.suffix.lower() in (".pkl", ".joblib"):
            return _SUFFIXES[".pkl"]
        return FileKind("a Python pickle, as older PyTorch writes checkpoints", _EXPORT_TORCH)
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40 and b'"' in head[9:20]:
        return _SUFFIXES[".safetensors"]
    if head and not head.strip(b"\0"):
        return FileKind("full of zeros: a download or a copy that broke off", "fetch it again")
    text = _text_kind(head)
    return text or (_SUFFIXES.get(path.suffix.lower()) if path is not None else None)


def folder_advice(path: Path) -> str:
    """What to give instead of a folder."""
    if (path / SAVED_MODEL_GRAPH).is_file():
        return f"it is a TensorFlow SavedModel, and something is wrong with its {SAVED_MODEL_GRAPH}"
    if path.suffix == ".mlpackage":
        return "it is a Core ML model: export the original to ONNX"
    models = sorted(file.name for file in path.glob("*.onnx"))
    if models:
        return f"give a file in it: {', '.join(models[:5])}{' …' if len(models) > 5 else ''}"
    return "give the .onnx file in it"


def similar_file(path: Path) -> str:
    """The name of a file beside ``path`` that may be meant; "" if there is none."""
    try:
        names = [file.name for file in path.absolute().parent.iterdir()]
    except OSError:
        return ""
    return next(iter(difflib.get_close_matches(path.name, [name for name in names if name != path.name], n=1)), "")


def _zip_kind(head: bytes, path: Path | None) -> FileKind:
    if b"data.pkl" in head or b"constants.pkl" in head or b"archive/" in head:
        return _TORCH
    suffix = path.suffix.lower() if path is not None else ""
    if suffix in (".pt2", ".keras", ".dlc", ".pt", ".pth"):
        return _SUFFIXES[suffix]
    if suffix == ".npz" or b".npy" in head[:512]:
        return FileKind("an archive of numpy arrays", "a model's inputs are given beside the model (with --npz)")
    return FileKind("a zip archive", "unpack it with unzip, and give the model in it")


def _text_kind(head: bytes) -> FileKind | None:
    """Of a text: a web page, a message of a server, another format's text."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # not just a character cut in two
            return None
        text = head[: error.start].decode()
    text = text.lstrip("\ufeff \t\r\n")
    if not text or any(character < " " and character not in "\t\r\n\f" for character in text):
        return None
    start = text[:200].lower()
    if start.startswith(("<!doctype html", "<html")) or "<head" in start or "<body" in start:
        return FileKind("a web page (HTML), not a model", _LINK)
    if start.startswith(("<?xml", "<net", "<error")):
        is_net = "<net" in text
        return _SUFFIXES[".xml"] if is_net else FileKind("an XML text, perhaps a server's message", _LINK)
    if start.startswith(("<ir_version", "<\n", "agraph", "ir_version:")):
        return FileKind("the text form of a model", "save its binary form: onnx.save(onnx.load(path), 'model.onnx')")
    if start[0] in "{[":
        return FileKind("a JSON text", "give an .onnx file")
    return FileKind(f"a text that begins with {text[:40].splitlines()[0]!r}", f"give an .onnx file; {_LINK}")

"""Deployment files that mean harm, or that somebody damaged: what is in each, and a word that its error has to have."""

from __future__ import annotations

from collections.abc import Iterator

GOOD = """\
library_name: mobilenet
target_abis: [arm64-v8a]
model_graph_format: file
model_data_format: file
models:
  mobilenet_v1:
    platform: onnx
    model_file_path: mobilenet_v1.onnx
    subgraphs:
      - input_tensors: [x]
        input_shapes: ["1,48,192,3"]
        output_tensors: [y]
        output_shapes: ["1,2"]
    runtime: cpu
    quantize: 0
    winograd: 0
"""


def changed(line: str, by: str) -> str:
    """The good file with one line changed, by what it begins with."""
    lines = GOOD.splitlines()
    (number,) = (n for n, each in enumerate(lines) if each.strip().startswith(line))
    indent = lines[number][: len(lines[number]) - len(lines[number].lstrip())]
    lines[number : number + 1] = [indent + each for each in by.splitlines()] if by else []
    return "\n".join(lines) + "\n"


def hostile() -> Iterator[tuple[str, bytes]]:
    """``(name, content)`` of each: none of them may be converted."""
    for name, text in _texts():
        yield name, text.encode()
    yield "not UTF-8", b"library_name: \xff\xfe\n"
    yield "UTF-16", GOOD.encode("utf-16")
    yield "null bytes", GOOD.encode().replace(b"mobilenet\n", b"mobile\0net\n", 1)
    yield "a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
    yield "an ELF file", b"\x7fELF\x02\x01\x01" + bytes(64)
    yield "a large file", b"# " + b"x" * (2 << 20)
    yield "only a byte order mark", b"\xef\xbb\xbf"
    yield "escape sequences", GOOD.encode().replace(b"mobilenet\n", b"\x1b[2J\x1b]0;owned\x07\n", 1)
    for size in range(1, len(GOOD), 23):
        if not _is_whole(GOOD[:size]):
            yield f"cut after {size} bytes", GOOD.encode()[:size]
    for number in range(0, len(GOOD), 29):
        content = bytearray(GOOD.encode())
        content[number] ^= 0x80  # no text any more
        yield f"byte {number} flipped", bytes(content)


def _is_whole(text: str) -> bool:
    return "output_shapes: [" in text and text.rstrip().endswith(("]", "cpu", "0", "quantize: 0"))


def _texts() -> Iterator[tuple[str, str]]:
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for one, other in zip("bcdefghi", "abcdefgh", strict=True):
        laughs += f"{one}: &{one} [{','.join([f'*{other}'] * 9)}]\n"
    yield "a billion laughs", laughs + GOOD
    yield (
        "laughs in mappings",
        "a: &a {x: 1}\n"
        + "".join(
            f"{one}: &{one} {{{', '.join(f'k{n}: *{other}' for n in range(9))}}}\n"
            for one, other in zip("bcdefgh", "abcdefg", strict=True)
        ),
    )
    yield "an alias of itself", "library_name: &a [*a]\n"
    yield "a mapping in itself", "models: &m\n  one: *m\n"
    yield "an unknown alias", "library_name: *none\n"
    yield "deep lists", "library_name: " + "[" * 50_000
    yield "deep lists that end", "library_name: " + "[" * 5000 + "]" * 5000
    yield "deep mappings", "library_name: " + "{a: " * 20_000
    yield "deep indentation", "".join(" " * n + f"k{n}:\n" for n in range(1000))
    yield "deep sequences", "- " * 20_000 + "x"
    yield "many keys", "".join(f"k{n}: 1\n" for n in range(30_000))
    yield "many documents", GOOD + "---\n" + GOOD
    yield "a python object", "library_name: !!python/object/apply:os.system ['touch owned']\n"
    yield "a python name", changed("library_name", "library_name: !!python/name:os.system")
    yield "an unknown tag", changed("library_name", "library_name: !boom x")
    yield "binary", changed("library_name", "library_name: !!binary gIGC")
    yield "a set", "!!set {library_name, target_abis}"
    yield "tabs", GOOD.replace("  ", "\t")
    yield "a tab before a key", changed("runtime", "\truntime: cpu")
    yield "duplicate keys", GOOD + "library_name: other\n"
    yield "a duplicate model", GOOD + "  mobilenet_v1: {}\n"
    yield "a duplicate key of a model", changed("runtime", "runtime: cpu\nruntime: gpu")
    yield "a key that is a list", "? [a, b]\n: 1\n"
    yield "merging a text", "<<: text\n" + GOOD
    yield "a directive", "%YAML 9.9\n---\n" + GOOD
    yield "an empty file", ""
    yield "comments alone", "# nothing\n"
    yield "a number", "42"
    yield "a list", "- a\n- b\n"
    yield "a text", "library_name"
    yield "JSON of nothing", "{}"
    yield "unbalanced quotes", changed("library_name", 'library_name: "mobilenet')
    yield "unbalanced brackets", changed("target_abis", "target_abis: [arm64-v8a")
    yield "a huge integer", changed("winograd", "winograd: " + "9" * 100_000)
    yield "a huge exponent", changed("winograd", "winograd: 1e999999999")
    yield "a negative number", changed("quantize", "quantize: -1")
    yield "infinity", changed("quantize", "quantize: .inf")
    yield "a date", changed("library_name", "library_name: 2020-01-01 00:00:00")
    for name in (
        "../../escape",
        "/etc",
        "..",
        ".",
        "a/b",
        "a\\b",
        "",
        "~",
        "-rf",
        "a\nb",
        "x" * 300,
        ".hidden",
        "a\u202eb",
    ):
        yield f"the library {name!r:.20}", changed("library_name", f"library_name: {_quoted(name)}")
    for name in ("../escape", "/abs", "a b", "1st", "class", "a.b", "a-b", "", "x" * 300, "é"):
        yield f"the model {name!r:.20}", changed("mobilenet_v1:", f"{_quoted(name)}:")
    for path in (
        "../../../../etc/passwd",
        "/etc/shadow",
        "/dev/zero",
        "/proc/self/mem",
        ".",
        "",
        "none.onnx",
        "~nobody/x",
    ):
        yield f"the file {path!r}", changed("model_file_path", f"model_file_path: {_quoted(path)}")
    for url in ("file:///etc/passwd", "ftp://localhost/x", "http://127.0.0.1:1/x.onnx", "data://x", "http://"):
        yield f"the URL {url}", changed("model_file_path", f"model_file_path: {url}")
    yield "a checksum that is short", changed("platform", "platform: onnx\nmodel_sha256_checksum: abc")
    yield "another checksum", changed("platform", f"platform: onnx\nmodel_sha256_checksum: {'0' * 64}")
    for shape in (
        "0,48,192,3",
        "-1,48,192,3",
        "1,48,192",
        "1,,3",
        "a,b",
        "1.5",
        "9" * 30,
        "1," * 40,
        "*",
    ):
        yield f"the shape {shape!r:.20}", changed("input_shapes", f"input_shapes: [{_quoted(shape)}]")
    for key, value in (
        ("runtime", "gpus"),
        ("runtime", "[cpu, gpu]"),
        ("runtime", "{a: b}"),
        ("quantize", "maybe"),
        ("winograd", "3"),
        ("platform", "onx"),
        ("platform", "tensorflow"),
        ("platform", "[]"),
        ("target_abis", "mips"),
        ("target_abis", "[]"),
        ("target_abis", "{}"),
        ("model_graph_format", "zip"),
        ("model_data_format", "code"),
        ("subgraphs", "[]"),
        ("models", "[]"),
        ("models", "text"),
    ):
        if key in ("subgraphs", "models"):
            yield f"{key}: {value}", GOOD.partition(f"{key}:")[0] + f"{key}: {value}\n"
        else:
            yield f"{key}: {value}", changed(f"{key}:", f"{key}: {value}")
    for key in ("library_name", "target_abis", "platform", "model_file_path", "- input_tensors", "output_shapes"):
        yield f"without {key}", changed(f"{key}:", "- other: 1" if key.startswith("-") else "")
    for key in ("libary_name: x", "target_abi: [host]", "model: {}", "__class__: x", "'': x", '"\\0": x'):
        yield f"the key {key}", GOOD + key + "\n"
    for extra in (
        "input_data_formats: [NHWC, NCHW]",
        "input_data_types: [float99]",
        "input_ranges: '1,-1'",
        "input_ranges: 'a,b'",
        "validation_threshold: {cpu: 2}",
        "validation_threshold: [1]",
        "validation_threshold: {tpu: 0.9}",
        "validation_inputs_data: [none.npy]",
        "check_tensors: [a]",
        "input_aliases: [a, b]",
        "validation_inputs_data: [{a: b}]",
        "quantize_range_file: none.range",
    ):
        yield f"with {extra}", changed("output_shapes", f'output_shapes: ["1,2"]\n{extra}')
    yield "an unset variable", changed("library_name", "library_name: ${MACE_NO_SUCH_VARIABLE}")
    yield "two subgraphs in a list", GOOD.replace("    runtime", "      - input_tensors: [x]\n    runtime")


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)

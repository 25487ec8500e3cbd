"""mace.hpp: by both compilers, with exceptions and without, under sanitizers; the C header by strict C99."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).parent))
from programs import HERE
from test_targets import classifier

from mace_core.ahead_of_time import Library, SizeRange, build_library

STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
INCLUDE = Path(__file__).parents[2] / "mace_core/ahead_of_time/include"


def sums() -> onnx.ModelProto:
    def info(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4])

    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["s"])], "sums", [info("a"), info("b")], [info("s")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    rows = (SizeRange(1, 8), 4)
    return build_library(
        {"classifier": classifier(), "sums": sums()},
        tmp_path_factory.mktemp("models"),
        name="models",
        shapes={"sums": [{"a": rows, "b": rows}]},
    )


def compiled(compiler: str, library: Library, folder: Path, *options: str) -> Path:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    program = folder / "wrapper"
    archive = library.folder / f"lib/{library.target}/lib{library.name}.a"
    command = [compiler, "-std=c++17", "-O1", "-g", *STRICT, *options, f"-I{library.folder / 'include'}"]
    subprocess.run([*command, HERE / "wrapper.cpp", archive, "-pthread", "-lm", "-o", program], check=True)
    return program


def assert_well(program: Path) -> None:
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "all is well\n"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("compiler", "options"),
    [
        ("g++", ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]),
        ("clang++", ["-fno-exceptions", "-fno-rtti"]),
        pytest.param("g++", ["-fsanitize=thread"], marks=pytest.mark.full),
        pytest.param("g++", ["-DMACE_NO_EXCEPTIONS", "-fsanitize=address,undefined"], marks=pytest.mark.full),
        pytest.param("clang++", ["-std=c++20"], marks=pytest.mark.full),
    ],
)
def test_everything_that_it_has_works(compiler: str, options: list[str], library: Library, tmp_path: Path) -> None:
    assert_well(compiled(compiler, library, tmp_path, *options))


@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-linux-gnueabihf-gcc"])
def test_the_c_header_is_strict_c99(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    (tmp_path / "main.c").write_text('#include "mace_runtime.h"\nint main(void) { return MACE_OK; }\n')
    command = [compiler, "-std=c99", "-pedantic", *STRICT, f"-I{INCLUDE}", "-c", "main.c"]
    subprocess.run(command, cwd=tmp_path, check=True)


@pytest.mark.full
def test_a_program_finds_the_library_by_dlopen(library: Library, tmp_path: Path) -> None:
    shared = library.folder / f"lib/{library.target}/lib{library.name}.so"
    if not shared.exists():
        pytest.skip(library.linker_missing)
    (tmp_path / "main.cpp").write_text(
        "#include <dlfcn.h>\n#include <cstdio>\n#include <cmath>\n#include \"mace.hpp\"\n"
        "int main(int, char **words) {\n"
        "  void *found = dlopen(words[1], RTLD_NOW);\n"
        "  if (!found) return std::puts(dlerror());\n"
        "  auto model = reinterpret_cast<const mace_model *(*)()>(dlsym(found, \"classifier_model\"));\n"
        "  mace::Instance net(model());\n"
        "  for (float &value : net.input<float>(0)) value = 1;\n"
        "  net.run();\n"
        "  float sum = 0;\n"
        "  for (float value : net.output<float>(0)) sum += value;\n"
        "  return std::fabs(sum - 1) > 1e-4f;\n"
        "}\n"
    )  # fmt: skip
    subprocess.run(
        ["g++", "-std=c++17", f"-I{INCLUDE}", "main.cpp", "-o", "main", "-ldl", "-lm"], cwd=tmp_path, check=True
    )
    subprocess.run([tmp_path / "main", shared], check=True)

"""Weights in a file beside the library: mapped, told apart from those of others, and as right as those inside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parent))
from programs import TOOLCHAINS, link, skip_without

from mace_core.ahead_of_time import Library, build_library
from mace_core.cli.main import main
from mace_core.errors import UsageError


def product(factor: float) -> onnx.ModelProto:
    """``y = x @ (factor * ones)``, x[1, 4]."""
    matrix = numpy_helper.from_array(np.full((4, 4), factor, np.float32), "matrix")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "matrix"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [matrix],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def built(factor: float, folder: Path, target: str = "host") -> Library:
    return build_library(product(factor), folder, target=target, name="product", weights="file")


EXPECTED = """\
without 9: none
map 0 check 0 run 0 20
one byte on 1
own memory 0 there
too little 3
other 9 none
short 9 none
absent 9 none
NULL 1 1
bent 0 check 9
inner 0 run 0 20
behind the end 9
"""


@pytest.mark.parametrize(
    "target",
    ["host", *(pytest.param(n, marks=pytest.mark.full) for n in ("arm64-v8a", "armeabi-v7a", "riscv64", "x86-64"))],
)
def test_a_program_gives_the_library_its_file_and_no_other(target: str, tmp_path: Path) -> None:
    skip_without(target)
    library = built(0.5, tmp_path / "lib", target)
    path = library.weights_path
    assert path is not None and path in library.files
    content = path.read_bytes()
    other = built(0.25, tmp_path / "other", target).weights_path
    assert other is not None and other.stat().st_size == len(content)
    short, bent, inner = tmp_path / "short", tmp_path / "bent", tmp_path / "inner"
    short.write_bytes(content[:-1])
    bent.write_bytes(content[:-5] + bytes((content[-5] ^ 1,)) + content[-4:])
    inner.write_bytes(b"lead of an archive " + content)
    program = link(library, "product", source="weights.c")
    pipe = tmp_path / "pipe"  # nobody writes into it
    os.mkfifo(pipe)
    for wrong in (short, pipe):
        arguments = [str(path), str(other), str(wrong), str(bent), str(inner), str(inner.read_bytes().index(content))]
        ran = subprocess.run(
            [*TOOLCHAINS[target].emulator, str(program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout == EXPECTED


WRAPPED = """
#include "mace.hpp"
#include "product.h"
static float sum(const char *path) {
  const mace::Weights first(product_model(), path);
  mace::Weights weights(product_model(), path);
  weights = mace::Weights(product_model(), path);
  mace::Instance net(product_model(), weights);
  for (float &x : net.input<float>("x")) x = 1;
  net.run();
  float found = 0;
  for (float y : net.output<float>("y")) found += y;
  return found;
}
int main(int, char **words) {
  std::printf("%g\\n", double(sum(words[1])));
  try {
    mace::Instance net(product_model());
  } catch (const mace::Error &error) {
    std::printf("%d %s\\n", int(error.status()), error.what());
  }
  try {
    sum("/no/such/file");
  } catch (const mace::Error &error) {
    std::printf("%d %s\\n", int(error.status()), error.what());
  }
}
"""


@pytest.mark.full
def test_the_wrapper_maps_the_file_and_says_what_is_wrong(tmp_path: Path) -> None:
    skip_without("host")
    library = built(0.5, tmp_path / "lib")
    (tmp_path / "main.cpp").write_text(WRAPPED, encoding="utf-8")
    program = tmp_path / "main"
    words = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{library.folder / 'include'}"]
    words += [str(tmp_path / "main.cpp"), str(library.folder / "lib/host/libproduct.a"), "-lm", "-lpthread"]
    subprocess.run([*words, "-o", str(program)], check=True)
    ran = subprocess.run([str(program), str(library.weights_path)], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [
        "8",
        "9 the weights are in a file that was not given, or is not the one of the library",
        "9 the weights '/no/such/file' cannot be used: there is no such file, or it is not the one of the library",
    ]


def test_a_build_with_weights_inside_leaves_no_file_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(product(0.5), tmp_path / "product.onnx")
    words = ["compile", str(tmp_path / "product.onnx"), "--target", "host", "-o", str(tmp_path / "out")]
    file = tmp_path / "out/lib/host/product.weights"
    assert main([*words, "--weights", "file"]) == 0
    assert file.stat().st_size >= 128 + 64
    assert "in a file" in " ".join(capsys.readouterr().out.split())
    assert main(words) == 0
    assert not file.exists()
    assert main([*words, "--weights", "apart"]) == 2
    assert "--weights apart: it is inside or file" in capsys.readouterr().err
    with pytest.raises(UsageError, match="not 'apart'"):
        build_library(product(0.5), tmp_path / "out", weights="apart")

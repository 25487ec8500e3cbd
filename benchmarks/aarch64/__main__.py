"""Instructions and modelled cycles per multiply-add of single layers, beside other engines' code for aarch64.

Every engine runs in the same way: its own wheel for aarch64, one thread, in a Python under qemu-user whose plugin
(`count.c`) counts instructions.  Two numbers of runs are counted, and the difference is that of the runs between them;
so starting, compiling and packing weights do not count, but everything that a run does counts, Python's part too.  The
straight stretch of code that took the most instructions is disassembled, and LLVM's model of a processor (llvm-mca)
says how many cycles it takes.

    python -m benchmarks.aarch64 --root FOLDER [--cpu neoverse-n1] [--layer NAME ...] [--json FILE]

docs/arm64.md says how to make the folder and what else it takes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.aarch64.layers import LAYERS, Layer

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
FEW, MANY = 1, 3
_ATTRIBUTES = "+dotprod,+i8mm,+bf16,+fullfp16,+fp16fml,+lse,+rdm"
_MACS = {
    "fmla": {"4s": 4, "8h": 8}, "fmlal": {"4s": 4}, "fmlal2": {"4s": 4}, "fmul": {},
    "sdot": {"4s": 16}, "udot": {"4s": 16}, "usdot": {"4s": 16},
    "smmla": {"4s": 32}, "ummla": {"4s": 32}, "usmmla": {"4s": 32}, "bfmmla": {"4s": 16}, "bfdot": {"4s": 8},
    "smlal": {"4s": 4, "8h": 8}, "smlal2": {"4s": 4, "8h": 8}, "smull": {"8h": 8}, "smull2": {"8h": 8},
    "umlal": {"4s": 4, "8h": 8}, "umlal2": {"4s": 4, "8h": 8}, "mla": {"4s": 4, "8h": 8},
}  # fmt: skip
"""Multiply-adds of an instruction, by the form of its result."""


@dataclass(frozen=True, slots=True)
class Count:
    """What one engine takes for one run of a layer.

    Attributes:
        instructions: per multiply-add of the layer's definition, over the whole run.
        share: of the run's instructions that are in the hottest stretch of code.
        inner: instructions per multiply-add of that stretch.
        cycles: of that stretch per multiply-add, by LLVM's model; None: it has no multiply-adds.
    """

    layer: str
    engine: str
    instructions: float
    share: float
    inner: float | None
    cycles: float | None
    result: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aarch64", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--root", type=Path, required=True, help="the folder of mace_testing.arm64, with the engines in opt/peers"
    )
    parser.add_argument("--cpu", default="neoverse-n1", help="qemu's and LLVM's name of a processor")
    parser.add_argument("--mca-cpu", default="", help="LLVM's name where it is another")
    parser.add_argument("--layer", action="append", choices=sorted(LAYERS), help="by default all")
    parser.add_argument("--engine", action="append", help="by default all that a layer names")
    parser.add_argument("--qemu", default="qemu-aarch64", help="qemu-user with plugins (the static one has none)")
    parser.add_argument("--llvm", default="", help="folder of llvm-mc and llvm-mca, version 19 or later")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    options = parser.parse_args()
    counts = []
    with tempfile.TemporaryDirectory() as folder:
        plugin = Path(folder) / "count.so"
        compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", plugin, HERE / "count.c"], check=True)
        for layer in [LAYERS[name] for name in options.layer or LAYERS]:
            engines = [engine for engine in layer.engines if not options.engine or engine in options.engine]
            for engine in engines:
                counts.append(count(options, plugin, layer, engine, Path(folder)))
                print(_line(counts[-1]), flush=True)  # noqa: T201
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in counts], indent=1))


def count(options: argparse.Namespace, plugin: Path, layer: Layer, engine: str, folder: Path) -> Count:
    """Count one engine at one layer."""
    if engine.startswith("mace"):
        for _ in range(2):  # the first compiles and stores, the second stores what it found out about the first's
            _run(options, None, layer, engine, 1, folder)
    few = _run(options, plugin, layer, engine, FEW, folder)
    many = _run(options, plugin, layer, engine, MANY, folder)
    total = (many.total - few.total) / (MANY - FEW)
    before = {(block.address, block.code): block.executions for block in few.blocks}
    blocks = [
        (block, (block.executions - before.get((block.address, block.code), 0)) / (MANY - FEW)) for block in many.blocks
    ]
    hottest, executions = max(blocks, key=lambda pair: pair[1] * len(pair[0].code))
    text = _disassembled(options, hottest.code)
    macs = sum(_macs(line) for line in text)
    cycles = _cycles(options, text)
    return Count(
        layer.name,
        engine,
        total / layer.macs,
        executions * (len(hottest.code) // 8) / total,
        len(text) / macs if macs else None,
        cycles / macs if macs and cycles else None,
        many.result,
    )


@dataclass(frozen=True, slots=True)
class _Block:
    address: int
    executions: int
    code: str


@dataclass(frozen=True, slots=True)
class _Counted:
    total: int
    blocks: list[_Block]
    result: str


def _run(
    options: argparse.Namespace, plugin: Path | None, layer: Layer, engine: str, runs: int, folder: Path
) -> _Counted:
    root, *wheels = _machine(options.root.resolve())
    out = folder / "counts"
    out.unlink(missing_ok=True)
    # the checkout is what is measured; the wheels of the project say what it is called
    paths = [*(REPOSITORY / part for part in ("", "plugins/cpu")), *wheels]
    command: list[object] = [options.qemu, "-cpu", options.cpu, "-L", root]
    if plugin is not None:
        command += ["-plugin", f"{plugin},out={out}"]
    inside = {
        "PYTHONPATH": ":".join(str(path) for path in paths),
        "QEMU_LD_PREFIX": str(root),
        "MACE_CACHE_DIR": str(options.root.resolve() / "opt/mace-cache"),
        "MACE_BUILD_PROCESSES": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name, value in inside.items():
        command += ["-E", f"{name}={value}"]
    command += ["-U", "LD_LIBRARY_PATH", root / "usr/bin/python3.11", HERE / "worker.py", engine, layer.name, str(runs)]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=dict(os.environ))
    if done.returncode:
        raise RuntimeError(f"{engine} at {layer.name} failed: {done.stderr[-2000:]}")
    if plugin is None:
        return _Counted(0, [], done.stdout)
    total, blocks = 0, []
    for line in out.read_text().splitlines():
        kind, *fields = line.split()
        if kind == "total":
            total = int(fields[0])
        else:
            blocks.append(_Block(int(fields[0], 16), int(fields[1]), fields[3]))
    return _Counted(total, blocks, done.stdout.strip())


def _machine(folder: Path) -> list[Path]:
    """The root folder of a machine of `mace_testing.arm64`, and those of wheels: others', the project's, engines'."""
    parts = []
    for name in ("root", "site", "project"):
        found = [part for part in folder.glob(f"{name}-*") if "-part" not in part.name]
        if not found:
            raise SystemExit(f"there is no {name} in {folder}; run python -m mace_testing.arm64 -- true")
        parts.append(max(found, key=lambda part: part.stat().st_mtime))
    return [*parts, folder / "opt/peers"]


def _tool(options: argparse.Namespace, name: str) -> str:
    return str(Path(options.llvm) / name) if options.llvm else name


def _disassembled(options: argparse.Namespace, code: str) -> list[str]:
    """Lines of assembly of instructions in hexadecimal."""
    words = [int(code[i : i + 8], 16).to_bytes(4, "little") for i in range(0, len(code), 8)]
    text = "\n".join(" ".join(f"0x{byte:02x}" for byte in word) for word in words)
    command = [_tool(options, "llvm-mc"), "--disassemble", "-triple=aarch64", f"-mattr={_ATTRIBUTES}"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return [line.strip() for line in done.stdout.splitlines() if line.strip() and not line.strip().startswith(".")]


def _macs(line: str) -> int:
    """Multiply-adds of an instruction."""
    word, _, operands = line.partition("\t")
    found = re.search(r"\.(4s|8h)\b", operands)
    return _MACS.get(word, {}).get(found.group(1), 0) if found else 0


def _cycles(options: argparse.Namespace, text: list[str]) -> float | None:
    """Of one turn of a loop with this body."""
    body = "\n".join(line for line in text if not re.match(r"(b|b\.\w+|cbn?z|tbn?z|bl|blr|ret)\b", line))
    cpu = options.mca_cpu or options.cpu
    processor = [f"-mcpu={cpu}", f"-mattr={_ATTRIBUTES}"]
    command = [_tool(options, "llvm-mca"), "-mtriple=aarch64", *processor, "-iterations=100"]
    done = subprocess.run(command, input=body, capture_output=True, text=True)
    found = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    return int(found.group(1)) / 100 if found else None


def _line(one: Count) -> str:
    inner = "-" if one.inner is None else f"{one.inner:.4f}"
    cycles = "-" if one.cycles is None else f"{one.cycles:.4f}"
    return (
        f"{one.layer:16} {one.engine:12} {one.instructions:.4f} instructions per multiply-add; hottest stretch "
        f"{one.share:4.0%}, {inner} instructions and {cycles} cycles | {one.result}"
    )


if __name__ == "__main__":
    main()

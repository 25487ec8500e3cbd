"""`mace run`: one run of a model on real or random input."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mace_core.cli.options import Model
from mace_core.cli.shared_options import InputOptions, OutputOptions, ReadingOptions, SessionOptions, shared_options


@shared_options
def run(
    model: Model,
    *,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir", "-o", metavar="DIR", help="Write each output to DIR/NAME.npy.", show_default=False
        ),
    ] = None,
    check_numerics: Annotated[
        bool,
        typer.Option(
            "--check-numerics", help="Stop at the first node that computes a NaN or an infinity, and name it."
        ),
    ] = False,
    check_nan: Annotated[bool, typer.Option("--check-nan", help="Like --check-numerics, but only for NaN.")] = False,
    reading: ReadingOptions,
    session: SessionOptions,
    inputs: InputOptions,
    output: OutputOptions,
) -> None:
    """Run a model once; print the outputs, where the nodes ran, and the reason for every fallback.

    Examples:

      mace run model.onnx --random

      mace run model.onnx --input picture.png --mean 127.5 --scale 0.0078431

      mace run model.onnx -i ids=ids.npy -i mask=mask.npy --device opencl --device cpu -o results

      mace run model.onnx --random --shape x=1x3x48x320 --device cpu --strict --json
    """
    from mace_core.cli.output import ALL_HINT, print_folded, progress
    from mace_core.cli.placement import placement_data, placement_lines
    from mace_core.presentation.table import ROWS_SHOWN

    if output_dir is not None:
        _make_folder(output_dir)
    looked_for = "all" if check_numerics else "nan" if check_nan else False
    with session.open(model, check_numerics=looked_for) as opened:
        feeds = inputs.feeds(opened)
        start = time.perf_counter()
        with progress("Running"):
            results = opened.run(feeds)
        seconds = time.perf_counter() - start
        found = opened.explain()
    files = _save(results, output_dir) if output_dir is not None else {}
    findings = {
        "model": model,
        "seconds": seconds,
        "inputs": {name: _describe(value) for name, value in feeds.items()},
        "outputs": {name: _describe(value) for name, value in results.items()},
        "files": files,
        "placement": placement_data(found),
    }

    def text() -> None:
        shown = len(results) if output.all_rows else ROWS_SHOWN
        for name, value in list(results.items())[:shown]:
            print_folded(f"{name}: {summary_line(value)}")
        if len(results) > shown:
            print_folded(f"… and {len(results) - shown} more outputs ({ALL_HINT})")
        for name, file in files.items():
            print_folded(f"{name} written to {file}")
        for line in placement_lines(found):
            print_folded(line)
        print_folded(f"first run, planning and compiling included: {seconds * 1000:.1f} ms")

    output.deliver("run", findings, text)


def summary_line(value: Any) -> str:
    """An output on one line: type, shape, range, and the largest values or, if it is short, all."""
    found = _describe(value)
    if "elements" not in found:
        return str(found["value"])
    text = f"{found['dtype']}{found['shape']}"
    if "min" in found:
        text += f" min {found['min']:.6g} max {found['max']:.6g} mean {found['mean']:.6g}"
    if found.get("not_finite"):
        text += f", {found['not_finite']} values are not finite"
    if "values" in found:
        return f"{text}: {found['values']}"
    top = ", ".join(f"[{', '.join(map(str, index))}]={value:.6g}" for index, value in found.get("top", ()))
    return f"{text}, largest {top}" if top else text


def _describe(value: Any) -> dict[str, Any]:
    import numpy as np

    if not isinstance(value, np.ndarray):
        return {"value": value if value is None else f"{type(value).__name__} of {len(value)}"}
    found: dict[str, Any] = {"dtype": value.dtype.name, "shape": list(value.shape), "elements": value.size}
    if value.size <= 8:
        found["values"] = value.tolist()
    if value.size == 0 or value.dtype.kind in "OUSTcb":
        return found
    numbers = value if value.dtype.kind in "iuf" else value.astype(np.float32)
    finite = np.isfinite(numbers)
    found["not_finite"] = int(value.size - np.count_nonzero(finite))
    chosen = numbers[finite]
    if chosen.size:
        found |= {"min": chosen.min().item(), "max": chosen.max().item(), "mean": float(chosen.mean(dtype=np.float64))}
        flat = np.where(finite, numbers, chosen.min()).reshape(-1)
        count = min(5, flat.size)
        order = np.argpartition(flat, -count)[-count:]
        order = order[np.argsort(flat[order], kind="stable")[::-1]]
        found["top"] = [([int(i) for i in np.unravel_index(k, value.shape)], flat[k].item()) for k in order]
    return found


def _make_folder(folder: Path) -> None:
    """Made before the run, so that a folder that cannot be does not cost the results."""
    from mace_core.errors import UsageError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"--output-dir {folder}: there is a file of that name") from None
    except OSError as error:
        raise UsageError(f"--output-dir {folder}: the folder cannot be made: {error.strerror}") from None


def _save(results: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write the outputs; names that cannot be file names are changed, and never escape the folder."""
    import numpy as np

    from mace_core.errors import MaceError, UsageError
    from mace_core.host.files import replacing

    files: dict[str, str] = {}
    for name, value in results.items():
        stem = re.sub(r"[^\w.-]+", "_", name).lstrip(".") or "output"
        path = folder / f"{stem}.npy"
        number = 1
        while str(path) in files.values():
            number += 1
            path = folder / f"{stem}.{number}.npy"
        if not isinstance(value, np.ndarray) or value.dtype.kind == "O":
            raise UsageError(f"the output '{name}' is not an array of numbers, so it cannot be written as .npy")
        try:
            with replacing(path) as target:
                np.save(target, value, allow_pickle=False)
        except OSError as error:
            raise MaceError(f"--output-dir: '{path}' cannot be written: {error.strerror or error}") from None
        files[name] = str(path)
    return files

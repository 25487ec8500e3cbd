"""Writes the models.  Run by a Python that has TensorFlow: ``python -m benchmarks.tflite_trial.generate FOLDER``.

Each model is FOLDER/family/case.form.tflite, with the inputs of its runs beside it (.npz: run number/input name).
What the converter refuses is FOLDER/family/case.form.refused, with the reason.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="benchmarks.tflite_trial.generate")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="a regular expression that names of models have to match")
    parser.add_argument("--again", action="store_true", help="also what is there already")
    given = parser.parse_args()

    from benchmarks.tflite_trial import cases
    from benchmarks.tflite_trial.case import CASES

    for module in pkgutil.iter_modules(cases.__path__):
        importlib.import_module(f"{cases.__name__}.{module.name}")
    for name, case in CASES.items():
        wanted = [form for form in case.forms if re.search(given.only, f"{name}.{form}")]
        files = {form: given.folder / f"{name}.{form}.tflite" for form in wanted}
        if not given.again:
            files = {form: file for form, file in files.items() if not _is_there(file)}
        if files:
            _write(case, files)
    return 0


def _is_there(file: Path) -> bool:
    return file.exists() or file.with_suffix(".refused").exists()


def _write(case: Any, files: dict[str, Path]) -> None:
    import tensorflow as tf

    from benchmarks.tflite_trial.forms import convert

    next(iter(files.values())).parent.mkdir(parents=True, exist_ok=True)
    built = None
    for form, file in files.items():
        began = time.monotonic()
        file.with_suffix(".refused").write_text("the converter ended the process")  # until it has not
        try:
            if built is None:
                tf.keras.backend.clear_session()
                built = case.build()
            content = convert(built, form)
        except Exception as error:  # the converter raises whatever it likes
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            file.with_suffix(".refused").write_text(f"{type(error).__name__}: {lines[0]}\n{traceback.format_exc()}")
            sys.stdout.write(f"{case.name}.{form}: refused: {lines[0][:150]}\n")
        else:
            runs = {f"{at}/{name}": value for at, run in enumerate(built.feeds) for name, value in run.items()}
            if built.signatures:
                runs["signature"] = np.array(built.signature)
            np.savez(file.with_suffix(".npz"), **runs)
            file.write_bytes(content)
            file.with_suffix(".refused").unlink()
            seconds = time.monotonic() - began
            sys.stdout.write(f"{case.name}.{form}: {len(content) / 1024:.0f} KiB, {seconds:.1f} s\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

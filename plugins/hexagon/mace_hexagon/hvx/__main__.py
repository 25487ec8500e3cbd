"""``python -m mace_hexagon.hvx``: compile an op package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mace_core.errors import MaceError
from mace_hexagon.hvx.toolchain import HOST, LOOKUP8, build_package


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser("python -m mace_hexagon.hvx", description="Compile an op package for the HTP.")
    parser.add_argument("sources", nargs="*", type=Path, help="C files of the package (default: Lookup8 of mace.hvx)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the shared object to write")
    parser.add_argument("--target", default=HOST, help="host (default: QNN on this machine), or v68 to v81")
    given = parser.parse_args(arguments)
    try:
        built = build_package(given.sources or LOOKUP8, given.output, given.target)
    except MaceError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{built}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

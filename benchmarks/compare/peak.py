"""The most that this machine's vector units can do, measured in a process of its own.

    python -m benchmarks.compare.peak 2 0.6

prints the GFLOP/s that two threads reach together, looking for 0.6 seconds; a multiply-add counts as two operations.
"""

from __future__ import annotations

import sys

from mace_core.native.peak import measure_peak


def main() -> None:
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0.6
    sys.stdout.write(f"{2 * measure_peak(int(sys.argv[1]), seconds) / 1e9:.3f}\n")


if __name__ == "__main__":
    main()

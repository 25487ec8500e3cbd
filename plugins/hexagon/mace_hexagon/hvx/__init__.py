"""Op packages of one's own for the HTP: the C sources that all share, one package as the example, a compiler."""

from mace_hexagon.hvx.tables import lookup_table
from mace_hexagon.hvx.toolchain import LOOKUP8, Toolchain, build_package, find_toolchain, why_no_toolchain

__all__ = ["LOOKUP8", "Toolchain", "build_package", "find_toolchain", "lookup_table", "why_no_toolchain"]

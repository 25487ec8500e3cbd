"""Which functions of the C library's mathematics a library brings along, and their code.

Nothing is imported but what describes them: see `mace_core.native.own_mathematics`.
"""

from __future__ import annotations

import functools
from collections.abc import Collection

from mace_core.native.loader import FLOAT_FUNCTIONS
from mace_core.native.numba_kernel import kernel_version
from mace_core.native.source import KernelSource
from mace_core.native.target import Target

_MODULE = "mace_core.native.own_mathematics"
_RARE = frozenset(("roundeven", "roundevenf"))
"""What only some C libraries have."""


def brought_along(imports: Collection[str], target: Target) -> list[KernelSource]:
    """The functions of float64 and float32, among those that objects import, that are built for the target.

    All of them on 32-bit ARM, where systems disagree on how floats are passed; elsewhere those that only some C
    libraries have.
    """
    wanted = FLOAT_FUNCTIONS if target.pointer_bits == 32 else _RARE
    return [_source(name) for name in sorted(wanted.intersection(imports))]


def _source(name: str) -> KernelSource:
    return KernelSource(name, kernel_version(_MODULE), functools.partial(_build, name))


def _build(name: str, target: Target) -> str:
    from mace_core.native.errors import KernelError
    from mace_core.native.numba_compile import numba_function_ir
    from mace_core.native.own_mathematics import FUNCTIONS

    is_narrow = name.endswith("f") and name.removesuffix("f") in FUNCTIONS and name != "erf"
    found = FUNCTIONS.get(name.removesuffix("f") if is_narrow else name)
    if found is None:
        raise KernelError(
            f"a kernel calls '{name}' of the C library, which is not called on this target (its systems disagree on "
            "how floats are passed), and there is no other code for it"
        )
    function, count = found
    return numba_function_ir(function, name, count, is_narrow=is_narrow)

"""Object code into memory, after a look at what it needs: a bad object is an error here, never a crash later."""

from __future__ import annotations

import ctypes
import functools
import itertools
import logging
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mace_core.native import elf
from mace_core.native.errors import KernelError
from mace_core.native.image import CodeImage, can_load_images, link_image, load_image

if TYPE_CHECKING:
    import llvmlite.binding as llvm

    from mace_core.native.source import KernelSource

_LOG = logging.getLogger("mace.native")

MAY_RAISE = "mace_kernel_may_raise"
"""An undefined symbol that a kernel compiled from Python has left if some path through it raises."""

# fmt: off
_FLOAT_FUNCTIONS = (
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "copysign", "cos", "cosh",
    "erf", "erfc", "exp", "exp2", "expm1", "fabs", "fdim", "floor", "fma", "fmax", "fmin", "fmod", "frexp",
    "hypot", "ldexp", "lgamma", "log", "log10", "log1p", "log2", "modf", "nearbyint", "nextafter", "pow",
    "remainder", "rint", "round", "roundeven", "scalbn", "sin", "sincos", "sinh", "sqrt", "tan", "tanh",
    "tgamma", "trunc",
)
# fmt: on
FLOAT_FUNCTIONS = frozenset((*_FLOAT_FUNCTIONS, *(name + "f" for name in _FLOAT_FUNCTIONS)))
"""C mathematics, of float64 and of float32."""

_MEMORY_FUNCTIONS = ("memcpy", "memmove", "memset", "memcmp", "bcmp")
# conversions of float16 and bfloat16 where the processor has none
_HALF_FUNCTIONS = ("__extendhfsf2", "__truncsfhf2", "__truncdfhf2", "__truncsfbf2", "__truncdfbf2")
# what 32-bit ARM has no instructions for: integers of 64 bits, and memory; every compiler for it brings them along
_INTEGERS_OF_ARM = ("idiv", "uidiv", "idivmod", "uidivmod", "ldivmod", "uldivmod", "lmul", "llsl", "llsr", "lasr")
_CONVERSIONS_OF_ARM = ("d2lz", "d2ulz", "f2lz", "f2ulz", "l2d", "l2f", "ul2d", "ul2f")
_MEMORY_OF_ARM = tuple(f"{name}{width}" for name in ("memcpy", "memmove", "memset", "memclr") for width in ("", 4, 8))
ARM_FUNCTIONS = frozenset(f"__aeabi_{name}" for name in (*_INTEGERS_OF_ARM, *_CONVERSIONS_OF_ARM, *_MEMORY_OF_ARM))
"""What code for 32-bit ARM may call besides; floats are passed to these in integer registers on all systems."""

_NO_FUNCTIONS = frozenset(("_GLOBAL_OFFSET_TABLE_", *(f"__aeabi_unwind_cpp_pr{n}" for n in range(3))))
"""Named in objects, and called by nobody: how to unwind what raises nothing."""

ALLOWED_IMPORTS = frozenset((*FLOAT_FUNCTIONS, *_MEMORY_FUNCTIONS, *_HALF_FUNCTIONS))
"""What a kernel may call: C mathematics, memory and conversion functions, to which LLVM lowers some operations."""

_library_numbers = itertools.count()


def check_object(source: KernelSource, image: bytes) -> bytes:
    """``image`` itself, once it is known to define its kernel and to need nothing but what kernels may call.

    Raises:
        KernelError: otherwise; the message names kernel and symbol.
    """
    if elf.is_elf(image):
        _elf_imports(source, image)
    return image


def _elf_imports(source: KernelSource, image: bytes) -> frozenset[str]:
    try:
        symbols = elf.read_symbols(image)
    except ValueError as error:
        raise KernelError(f"the object code of kernel '{source.symbol}' is damaged: {error}") from error
    if source.symbol not in symbols.defined:
        raise KernelError(f"the object code of kernel '{source.symbol}' does not define that symbol")
    needed = symbols.undefined - _NO_FUNCTIONS
    if MAY_RAISE in needed:
        raise KernelError(
            f"kernel '{source.symbol}' may raise an exception (symbol '{MAY_RAISE}' is left): kernels cannot; remove "
            "raise and assert, and call only helpers compiled with numba_prelude.helper"
        )
    forbidden = sorted(needed - ALLOWED_IMPORTS - ARM_FUNCTIONS - source.imports)
    if forbidden:
        raise KernelError(
            f"kernel '{source.symbol}' refers to '{', '.join(forbidden)}', which kernels may not call: they get "
            "pointers and integers, allocate nothing and use no Python objects"
        )
    return needed


def link_objects(sources: Sequence[KernelSource], objects: Mapping[str, bytes]) -> dict[str, int]:
    """Load checked objects into this process.  The code stays until the process ends.

    Raises:
        KernelError: the linker refused an object.
    """
    image = prelink(sources, objects)
    if image is not None:
        addresses = load_prelinked(image)
        if addresses is not None:
            return addresses
    return _link_with_llvm(sources, objects)


def prelink(sources: Sequence[KernelSource], objects: Mapping[str, bytes]) -> CodeImage | None:
    """Checked objects as one image that `load_prelinked` takes, here or in a later process; None where only LLVM's
    loader can load them.

    Raises:
        KernelError: an object is damaged.
    """
    if not can_load_images():
        return None
    try:
        return link_image(objects[source.symbol] for source in sources)
    except ValueError as error:
        raise KernelError(f"the object code of {_some_names(sources)} is damaged: {error}") from error


def load_prelinked(image: CodeImage) -> dict[str, int] | None:
    """Addresses of the kernels of an image; None if this process cannot load it."""
    functions = {name: address for name in image.imports if (address := c_function(name)) is not None}
    if absent := sorted(image.imports.keys() - functions.keys()):
        _LOG.info("Linked code is not used: it calls '%s', which this process does not have.", "', '".join(absent))
        return None
    try:
        return load_image(image, functions, c_function("__clear_cache") if _has_instruction_cache() else None)
    except OSError as error:
        _LOG.info("Linked code cannot be loaded (%s); going on with LLVM's loader.", error)
        return None


def _has_instruction_cache() -> bool:
    """Whether code that was just written has to be told to the processor: all but x86 may run what was there before."""
    return platform.machine().lower() not in ("x86_64", "amd64")


def _link_with_llvm(sources: Sequence[KernelSource], objects: Mapping[str, bytes]) -> dict[str, int]:
    import llvmlite.binding as llvm

    builder = llvm.JITLibraryBuilder()
    imports: dict[str, int] = {}
    for source in sources:
        image = objects[source.symbol]
        imports.update(_addresses(source, image))
        builder.add_object_img(image)
        builder.export_symbol(source.symbol)
    for name, address in sorted(imports.items()):
        builder.import_symbol(name, address)
    try:
        tracker = builder.link(_jit(), f"mace{next(_library_numbers)}")
    except RuntimeError as error:
        raise KernelError(f"the object code of {_some_names(sources)} cannot be loaded: {error}") from error
    _keep_for_ever(tracker)
    return {source.symbol: int(tracker[source.symbol]) for source in sources}


def _some_names(sources: Sequence[KernelSource]) -> str:
    return ", ".join(source.symbol for source in sources[:5]) + (", …" if len(sources) > 5 else "")


def _addresses(source: KernelSource, image: bytes) -> dict[str, int]:
    """Where the functions are that an object imports."""
    exact = elf.is_elf(image)
    names = _elf_imports(source, image) if exact else ALLOWED_IMPORTS | source.imports
    found = {name: address for name in names if (address := c_function(name)) is not None}
    absent = sorted(names - found.keys())
    if exact and absent:
        raise KernelError(f"kernel '{source.symbol}' calls '{', '.join(absent)}', which this system does not have")
    return found


@functools.cache
def _jit() -> llvm.LLJIT:
    import llvmlite.binding as llvm

    from mace_core.native.compiler import initialize_native

    initialize_native()
    jit = llvm.create_lljit_compiler(use_jit_link=True)
    _keep_for_ever(jit)
    return jit


def _keep_for_ever(owner: object) -> None:
    """Unloading code that a daemon thread may still be running would crash the process at its end."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


@functools.cache
def c_function(name: str) -> int | None:
    """The address of a C library function in this process; None if the platform has no such function."""
    for library in _c_libraries():
        try:
            function = getattr(library, name)
        except AttributeError:
            continue
        return ctypes.cast(function, ctypes.c_void_p).value
    return None


@functools.cache
def _c_libraries() -> tuple[ctypes.CDLL, ...]:
    if sys.platform == "win32":
        names: tuple[str | None, ...] = ("ucrtbase", "vcruntime140", "kernel32")
    elif sys.platform == "darwin":
        names = (None,)
    else:
        names = (None, "libm.so.6", "libm.so", "libc.so.6", "libgcc_s.so.1")
    libraries = []
    for name in names:
        try:
            libraries.append(ctypes.CDLL(name))
        except OSError:
            continue
    return tuple(libraries)

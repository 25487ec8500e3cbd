"""Python functions to LLVM IR with the kernel ABI, through numba.  Imports numba."""

from __future__ import annotations

import re
from typing import Any

from numba import types
from numba.core import codegen, compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu_options import FastMathOptions
from numba.core.errors import NumbaError
from numba.core.registry import cpu_target

from mace_core.native.errors import KernelError
from mace_core.native.loader import MAY_RAISE

_ARGUMENTS = (types.CPointer(types.int64), types.int64, types.int64, types.int64)


class _PlainLibrary(codegen.AOTCodeLibrary):  # type: ignore[misc]
    """Keeps numba's code as it was generated: optimizing is done once, for the target wanted, by our own pipeline."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        return


class _PlainCodegen(codegen.AOTCPUCodegen):  # type: ignore[misc]
    _library_class = _PlainLibrary


def numba_ir(function: Any, symbol: str) -> str:
    """LLVM IR that defines ``symbol`` with the kernel ABI and does what the Python ``function`` does.

    Raises:
        KernelError: numba cannot compile it without Python objects.
    """
    text, inner = _plain_ir(function, symbol, _ARGUMENTS, types.none)
    return text + _WRAPPER.format(symbol=symbol, inner=inner, may_raise=MAY_RAISE)


def numba_function_ir(function: Any, symbol: str, arguments: int, *, is_narrow: bool) -> str:
    """LLVM IR that defines a C function of floats.

    Args:
        function: made with `mace_core.native.numba_prelude.helper`, of as many float64.
        symbol: how C calls it.
        arguments: how many it takes.
        is_narrow: it takes and returns float32, and computes in float64.

    Raises:
        KernelError: numba cannot compile it without Python objects.
    """
    text, inner = _plain_ir(function.py_func, f"{symbol}_of_float64", (types.float64,) * arguments, types.float64)
    kind = "float" if is_narrow else "double"
    names = [f"%x{number}" for number in range(arguments)]
    widened = [f"  {name}.wide = fpext float {name} to double\n" for name in names] if is_narrow else []
    passed = ", ".join(f"double {name}.wide" if is_narrow else f"double {name}" for name in names)
    answer = "  %answer = fptrunc double %wide to float\n  ret float %answer" if is_narrow else "  ret double %wide"
    return text + _FUNCTION.format(
        symbol=symbol,
        inner=inner,
        may_raise=MAY_RAISE,
        kind=kind,
        taken=", ".join(f"{kind} {name}" for name in names),
        widened="".join(widened),
        passed=passed,
        answer=answer,
    )


def _plain_ir(function: Any, symbol: str, arguments: tuple[Any, ...], answer: Any) -> tuple[str, str]:
    """What numba makes of a function, not optimized, and its name in there."""
    flags = compiler.Flags()
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.nrt = False
    flags.error_model = "numpy"
    flags.boundscheck = False
    fastmath = getattr(function, "__fastmath__", False)
    if fastmath:
        flags.fastmath = FastMathOptions(fastmath)
    with global_compiler_lock:
        cpu_target.target_context.refresh()
        cpu_target.typing_context.refresh()
        library = _PlainCodegen("mace." + symbol).create_library(symbol)
        try:
            result = compiler.compile_extra(
                cpu_target.typing_context,
                cpu_target.target_context,
                function,
                arguments,
                answer,
                flags,
                {},
                library=library,
            )
            library.finalize()  # links the helpers' code in
        except NumbaError as error:
            raise KernelError(f"numba cannot compile kernel '{symbol}': {error}") from error
        text = library.get_llvm_str()
    inner = result.fndesc.llvm_func_name
    return _inline(text, inner), inner


def _inline(text: str, name: str) -> str:
    """The definition of ``name`` marked to be inlined."""
    marked, count = re.subn(
        rf'^define [^@\n]*(i32 @"?{re.escape(name)}"?\([^\n]*\))[^\n{{]*\{{$',
        r"define internal \1 alwaysinline {",
        text,
        flags=re.MULTILINE,
    )
    if count != 1:
        raise KernelError(
            f"numba's code for '{name}' has a form that is not known here; please report this numba version"
        )
    return marked


# numba's own convention: a status (0 = returned), the return value and the exception through pointers
_WRAPPER = """
declare void @{may_raise}()

define void @"{symbol}"(ptr %args, i64 %begin, i64 %end, i64 %chunk) {{
  %result = alloca ptr
  %exception = alloca ptr
  %status = call i32 @"{inner}"(ptr %result, ptr %exception, ptr %args, i64 %begin, i64 %end, i64 %chunk)
  %raised = icmp ne i32 %status, 0
  br i1 %raised, label %bad, label %good
bad:
  call void @{may_raise}()
  br label %good
good:
  ret void
}}
"""

_FUNCTION = """
declare void @{may_raise}()

define {kind} @"{symbol}"({taken}) nobuiltin "no-builtins" {{
  %result = alloca double
  %exception = alloca ptr
  store double 0.0, ptr %result
{widened}  %status = call i32 @"{inner}"(ptr %result, ptr %exception, {passed})
  %raised = icmp ne i32 %status, 0
  br i1 %raised, label %bad, label %good
bad:
  call void @{may_raise}()
  br label %good
good:
  %wide = load double, ptr %result
{answer}
}}
"""

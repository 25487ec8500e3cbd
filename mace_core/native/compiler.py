"""LLVM IR to object code."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection

import llvmlite.binding as llvm

from mace_core.host.fork_safe import fork_safe_lock
from mace_core.native.errors import KernelError
from mace_core.native.target import Target

HAND_MADE = "; made by hand\n"
"""IR that begins with this line is vectorized, unrolled and free of redundancy: it is only tidied, which takes a tenth
of the time of LLVM's whole pipeline."""

_INTERNAL_LINKAGE = "internal"
_lock = fork_safe_lock()


def compile_object(ir: str, symbol: str, target: Target) -> bytes:
    """Optimized object code of an LLVM module in which only ``symbol`` is visible from outside.

    Raises:
        KernelError: the IR is not valid or does not define ``symbol``.
    """
    module, machine = optimize(ir, symbol, target)
    return bytes(machine.emit_object(module))


def compile_module(ir: str, symbols: Collection[str], name: str, target: Target) -> bytes:
    """As `compile_object`, where several symbols are visible from outside.

    Raises:
        KernelError: the IR of the module, which messages call ``name``, is not valid or does not define them.
    """
    module, machine = optimize(ir, name, target, symbols)
    return bytes(machine.emit_object(module))


def compile_assembly(ir: str, symbol: str, target: Target) -> str:
    """As `compile_object`, but readable: to see what became of a kernel."""
    module, machine = optimize(ir, symbol, target)
    return str(machine.emit_assembly(module))


def optimize(
    ir: str, symbol: str, target: Target, exported: Collection[str] = ()
) -> tuple[llvm.ModuleRef, llvm.TargetMachine]:
    """The optimized module and the machine to emit it with.

    ``exported``: what is visible from outside; ``symbol`` where it is empty.
    """
    machine = target_machine(target)
    # a context of its own keeps the types of thousands of modules from piling up in the global one
    context = llvm.create_context()
    try:
        module = llvm.parse_assembly(_laid_out(ir, str(machine.target_data)), context)
        module.triple = target.triple
        module.data_layout = str(machine.target_data)
        module.verify()
    except RuntimeError as error:
        raise KernelError(f"the LLVM IR of kernel '{symbol}' is not valid: {error}") from error
    _hide_all_but(module, exported or (symbol,))
    if ir.startswith(HAND_MADE):
        _tidy(module, machine)
        return module, machine
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.slp_vectorization = True
    options.loop_interleaving = True
    options.loop_unrolling = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module, machine


_LAYOUT = re.compile(r"^target (datalayout|triple) = .*$", re.MULTILINE)


def _laid_out(ir: str, layout: str) -> str:
    """The IR with the data layout of the target in the place of its own: what is loaded without saying at which
    alignment is read at that of its type, and the parser takes it from the layout (8 for a pointer where there is none,
    which 32-bit processors keep at 4)."""
    return f'target datalayout = "{layout}"\n' + _LAYOUT.sub("", ir)


def _tidy(module: llvm.ModuleRef, machine: llvm.TargetMachine) -> None:
    """Local variables into registers, addresses and constants simplified."""
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)


def _hide_all_but(module: llvm.ModuleRef, symbols: Collection[str]) -> None:
    missing = set(symbols)
    for value in (*module.functions, *module.global_variables):
        if value.is_declaration:
            continue
        if value.name in symbols:
            missing.discard(value.name)
        elif not value.name.startswith("llvm."):
            value.linkage = _INTERNAL_LINKAGE
    if missing:
        raise KernelError(f"the LLVM IR of kernel '{min(missing)}' does not define a function of that name")


def target_machine(target: Target) -> llvm.TargetMachine:
    """A machine that emits position-independent code, which is what the loader wants."""
    with _lock:
        _initialize(target.triple == llvm.get_process_triple())
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=target.attributes,
        opt=3,
        reloc="pic",
        codemodel="default",
        abiname="lp64d" if target.architecture == "riscv64" else "",
    )


@functools.cache
def _initialize(native: bool) -> None:
    if native:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()


def initialize_native() -> None:
    """Make LLVM know the processor we run on."""
    with _lock:
        _initialize(True)

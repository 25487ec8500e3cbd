"""From models to a library that C and C++ programs link: an object, an archive, and headers."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_core.ahead_of_time.cmake import cmake_path, cmake_text
from mace_core.ahead_of_time.headers import HeaderModel, header_text, runtime_headers, symbol_of
from mace_core.ahead_of_time.linking import LinkedLibrary, LinkerMissingError, LinkError, find_linker, link_shared
from mace_core.ahead_of_time.planning import LibraryModel
from mace_core.ahead_of_time.ranges import Shapes, Size
from mace_core.ahead_of_time.tables import TableMaker, Tables, WeightPool, element_bytes
from mace_core.ahead_of_time.variants import Signature
from mace_core.ahead_of_time.weight_file import WeightFile, write_weights
from mace_core.errors import MaceError, UnsupportedError, UsageError
from mace_core.graph import Value
from mace_core.host.staging import staging_folder
from mace_core.native.library_ir import CREATE_WITH, FUNCTIONS, LibraryKernels, runtime_ir
from mace_core.native.library_model_ir import ModelFacts, StateFacts, TensorFacts, model_ir
from mace_core.native.named_targets import named_target
from mace_core.native.target import Target
from mace_core.progress import report
from mace_core.provider.registry import Registry, default_registry
from mace_core.tensor import DType, TensorType
from mace_core.version import VERSION

if TYPE_CHECKING:
    from mace_core.frontend.load import Model
    from mace_core.native.relocatable import SectionSizes

DEFAULT_THREADS = 4
"""Among how many threads the work of a library is split where nobody says: the fast processors of a phone."""

_MOST_WEIGHT_BYTES, _MOST_WEIGHT_BYTES_OF_32 = 3 << 30, 1 << 30
"""What linkers and archives of 32-bit offsets take, with room for the rest."""

_MOST_BYTES_OF_32 = (1 << 31) - 1
"""Of memory that a program of 32 bits can have in one piece."""

_MADE_BY = f"MACE {VERSION}"
_WEIGHTS = "mace_library_weights"
ANDROID_LIBRARIES = ("libc.so",)
WEIGHT_PLACES = ("inside", "file")
"""Where the weights of a library may be."""
_ALLOWED = frozenset(
    (
        "posix_memalign", "free", "memset", "memcpy", "memmove", "memcmp", "snprintf", "syscall", "clock_gettime",
        "sched_yield", "madvise", "pthread_self", "pthread_create", "pthread_join", "getpid", "_GLOBAL_OFFSET_TABLE_",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BuiltModel:
    """A model of a library.

    Attributes:
        symbol: the prefix of its names in C: the function is ``SYMBOL_model``.
        file: where it came from.
        inputs, outputs: as the library tells them.
        states: those of them that it keeps from run to run.
        plans: how many.
        steps: of all of them.
        instance_bytes, workspace_bytes: as ``mace_runtime.h`` means them.
        most_threads: that take part in a run.
        assumed: sizes of free dimensions that nobody gave.
        equal: dimensions of several inputs that are one size, since the model takes no others.
    """

    symbol: str
    file: str
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    plans: int
    steps: int
    instance_bytes: int
    workspace_bytes: int
    most_threads: int
    assumed: str
    equal: str = ""
    states: tuple[StateFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class Library:
    """What `build_library` wrote.

    Attributes:
        name: of the library; its files are ``NAME.o``, ``libNAME.a`` and ``NAME.h``.
        target: the processor.
        folder: with ``include`` and ``lib/TARGET``.
        files: all that was written.
        models: in order.
        kernels: how many are in it.
        code_bytes, weight_bytes, table_bytes: of instructions, of weights, and of plans, texts, constants of kernels.
        object_bytes, archive_bytes: sizes of the files.
        weights_path: the file of the weights; None where they are in the library.
        shared_bytes, linker: the size of the shared library, and what made it; 0 and "" where no linker was found.
        linker_missing: why there is no shared library; "" where there is one.
        imports: the functions that it wants from the C library.
        seconds: that it took.
    """

    name: str
    target: str
    folder: Path
    files: tuple[Path, ...]
    models: tuple[BuiltModel, ...]
    kernels: int
    code_bytes: int
    weight_bytes: int
    table_bytes: int
    object_bytes: int
    archive_bytes: int
    shared_bytes: int
    linker: str
    linker_missing: str
    imports: tuple[str, ...]
    seconds: float
    weights_path: Path | None = None


def build_library(
    models: Model | Mapping[str, Model],
    out: str | os.PathLike[str],
    *,
    target: str = "host",
    shapes: Mapping[str, Sequence[Size]] | Sequence[Mapping[str, Sequence[Size]]] | Mapping[str, Sequence[Shapes]] = (),
    fixed: Mapping[str, Any] | Mapping[str, Mapping[str, Any]] | None = None,
    name: str = "",
    threads: int = DEFAULT_THREADS,
    optimize: bool = True,
    linker: str | None = None,
    weights: str = "inside",
    precision: str = "float32",
    for_android: bool = False,
    registry: Registry | None = None,
) -> Library:
    """Build a library for C and C++ programs of one or several models, for a processor that need not be this one.

    ``out/include`` gets the headers, ``out/lib/TARGET`` an object, a static library, and a shared one where something
    that links for the target is installed.  Files that are there are replaced, each in one step, once all are whole.

    Args:
        models: a path, bytes, an ``onnx.ModelProto`` or a ``Graph``; or several by the prefix of their names in C.
        out: a folder; it is made.
        target: a name of `mace_core.native.named_targets.TARGET_NAMES`.
        shapes: of the inputs, by name, where a size may be a `SizeRange`; a sequence of them for several signatures;
            for several models by model a sequence each.  Usual sizes are assumed for dimensions that are left free.
        fixed: values of inputs that become constants (`mace_core.processing.fix_inputs`); for several models by model.
        name: of the library; by default that of the first model.
        threads: among how many the work is split at most; 1 leaves out all that starts threads.
        optimize: simplify the graphs first.
        linker: a program, with arguments, that makes the shared library; found by itself where None.
        weights: where they are: "inside" the library, or in a "file" beside it, which the program gives to
            ``mace_create_with`` (see ``mace_weights.h``).
        for_android: the shared library asks for Android's ``libc.so``, without which ``System.loadLibrary`` and
            ``dlopen`` do not load it there; one that asks for nothing suits every C library where a program brings it.
        precision: in what numbers it multiplies: the option of the cpu provider, where the target has the
            instructions; "float16" with arm64-v8.2a.
        registry: where providers are found; the process's own by default.

    Raises:
        ModelError: if a model cannot be read.
        UsageError, InputError: for a target, shapes or names that mean nothing.
        UnsupportedError: if no library can be made of a model; names the node, and says why.
        LinkError: if no shared library can be made though there is a linker; the other files are written then.
        MaceError: if files cannot be written.
    """
    start = time.perf_counter()
    facts = named_target(target)
    if "linux" not in facts.target.triple:
        raise UsageError(f"libraries are built for Linux and Android; the target 'host' is {facts.target.triple} here")
    if linker is not None:
        find_linker(target, linker)  # before the work is done
    if weights not in WEIGHT_PLACES:
        raise UsageError(f"weights are in one of two places, {' or '.join(WEIGHT_PLACES)}, and not '{weights}'")
    if not 1 <= threads <= 64:
        raise UsageError(f"a library is built for 1 to 64 threads, not {threads}")
    chosen = registry or default_registry()
    named = dict(models) if isinstance(models, Mapping) else {"": models}
    if not named:
        raise UsageError("a library holds at least one model")
    if isinstance(models, Mapping):
        _check_names("fixed", fixed or {}, named)
        flat = [name for name, values in (fixed or {}).items() if not isinstance(values, Mapping)]
        if flat:
            raise UsageError(f"fixed: it is a mapping for each of several models, and that of '{flat[0]}' is none")
    parts: list[_Part] = []
    pool = WeightPool()
    for number, (given, model) in enumerate(named.items()):
        report("planning", number, len(named))
        values = (fixed or {}).get(given, {}) if isinstance(models, Mapping) else fixed
        loaded = LibraryModel(model, target, threads, optimize, chosen, precision, values)
        symbol = symbol_of(given or (name if len(named) == 1 else "") or Path(loaded.file).stem)
        if any(part.symbol == symbol for part in parts):
            raise UsageError(f"two models of the library are called '{symbol}'; give them names of their own")
        parts.append(_Part(symbol, loaded, loaded.signatures(_signatures(shapes, given, named)), pool, threads))
    report("planning", len(named), len(named))
    most = _MOST_WEIGHT_BYTES if facts.target.pointer_bits == 64 else _MOST_WEIGHT_BYTES_OF_32
    is_apart = weights == "file" and pool.nbytes > 0
    if pool.nbytes > most and not is_apart:
        raise UnsupportedError(
            f"the weights take {pool.nbytes / 2**30:.1f} GiB, and a library for '{target}' holds up to {most >> 30} "
            "GiB; leave them in a file (`--weights file`), or quantize the model"
        )
    if facts.target.pointer_bits == 32:
        for part in parts:
            part.check_fits_32(target)
    library = symbol_of(name) if name else parts[0].symbol
    needed = ANDROID_LIBRARIES if for_android else ()
    folder = Path(out)
    with _Staging(folder) as staging:
        return _written(library, target, facts.target, parts, pool, is_apart, folder, staging, linker, needed, start)


def _check_names(what: str, given: Mapping[str, Any], models: Mapping[str, Any]) -> None:
    """What is said of several models is said by model: other names would be overlooked."""
    unknown = [name for name in given if name not in models]
    if unknown:
        known = ", ".join(f"'{name}'" for name in models)
        raise UsageError(f"{what}: there is no model '{unknown[0]}' in the library; its models: {known}")


def _signatures(shapes: object, model: str, models: Mapping[str, Any]) -> list[Shapes]:
    """The signatures of one model."""
    if isinstance(shapes, Mapping):
        values = list(shapes.values())
        if values and all(isinstance(value, Sequence) and value and isinstance(value[0], Mapping) for value in values):
            _check_names("shapes", shapes, models)
            return list(shapes.get(model, ()))
        return [shapes] if shapes else []
    return list(shapes)  # type: ignore[call-overload, no-any-return]


class _Part:
    """A model and its tables."""

    def __init__(
        self, symbol: str, model: LibraryModel, signatures: list[Signature], weights: WeightPool, threads: int
    ) -> None:
        self.symbol, self.model, self.signatures = symbol, model, signatures
        outputs = [_type_of(value, model) for value in model.outputs]
        ranks = _ranks(signatures, model)
        self.inputs = tuple(
            TensorFacts(value.name, _type_of(value, model).dtype.value, *_input_bounds(signatures, number))
            for number, value in enumerate(model.inputs)
        )
        starts = np.cumsum([0, *ranks]).tolist()
        smallest = [min(sizes) for sizes in zip(*(s.smallest_outputs for s in signatures), strict=True)]
        largest = [max(sizes) for sizes in zip(*(s.largest_outputs for s in signatures), strict=True)]
        self.outputs = tuple(
            TensorFacts(value.name, type.dtype.value, smallest[first:end], largest[first:end])
            for value, type, first, end in zip(model.outputs, outputs, starts[:-1], starts[1:], strict=True)
        )
        self.states = _states(model)
        shapes = "; ".join(dict.fromkeys(signature.text(model.inputs) for signature in signatures))
        self.tables: Tables = TableMaker(
            symbol,
            [value.name for value in model.inputs],
            [value.name for value in model.outputs],
            ranks,
            [
                element_bytes(type.dtype.bits)
                for type in (*(_type_of(value, model) for value in model.inputs), *outputs)
            ],
            signatures,
            weights,
            shapes or "a model without inputs",
            threads,
        ).make()

    def facts(self, target: str, weights: WeightFile | None) -> ModelFacts:
        tables = self.tables
        return ModelFacts(
            self.symbol,
            self.symbol,
            target,
            _MADE_BY,
            self.inputs,
            self.outputs,
            tables.most_threads,
            tables.instance_bytes,
            tables.workspace_bytes,
            f"{self.symbol}.tables",
            _WEIGHTS if weights is None else "",
            tables.kernels,
            tables.messages,
            tables.steps,
            *(weights or (0, b"")),
            states=self.states,
        )

    def check_fits_32(self, target: str) -> None:
        """
        Raises:
            UnsupportedError: if an input, an output or the memory of an instance is larger than 32 bits can count.
        """
        sizes = {f"'{each.name}'": _most_bytes(each) for each in (*self.inputs, *self.outputs)}
        sizes["an instance"] = self.tables.instance_bytes + self.tables.workspace_bytes
        for what, nbytes in sizes.items():
            if nbytes > _MOST_BYTES_OF_32:
                raise UnsupportedError(
                    f"{self.model.label}: {what} takes up to {nbytes / 2**30:.1f} GiB, more than a program for "
                    f"'{target}' can hold in one piece; give smaller shapes (--shape)"
                )

    @property
    def kernels(self) -> dict[str, bytes]:
        """Object code of all that its plans use."""
        found: dict[str, bytes] = {}
        for signature in self.signatures:
            for variant in signature.variants:
                if variant.program is not None:
                    found.update(variant.program.kernels)
        return found

    def built(self) -> BuiltModel:
        tables = self.tables
        return BuiltModel(
            self.symbol,
            self.model.file,
            self.inputs,
            self.outputs,
            sum(len(signature.variants) for signature in self.signatures),
            len(tables.steps),
            tables.instance_bytes,
            tables.workspace_bytes,
            tables.most_threads,
            self.model.assumed,
            "; ".join(dict.fromkeys(signature.equal for signature in self.signatures if signature.equal)),
            self.states,
        )


def _states(model: LibraryModel) -> tuple[StateFacts, ...]:
    """What a model keeps; what begins with one number for all elements is told by that."""
    inputs = [value.name for value in model.inputs]
    outputs = [value.name for value in model.outputs]
    found = []
    for name, state in model.states.items():
        start = b""
        if state.start is not None and np.any(state.start):
            flat = np.ascontiguousarray(state.start).reshape(-1)
            start = (flat[:1] if np.all(flat == flat[0]) else flat).tobytes()
        found.append(StateFacts(inputs.index(name), outputs.index(state.output), start))
    return tuple(found)


def _most_bytes(tensor: TensorFacts) -> int:
    return element_bytes(DType(tensor.type).bits) * math.prod(tensor.largest)


def _type_of(value: Value, model: LibraryModel) -> TensorType:
    if not isinstance(value.type, TensorType):
        raise UnsupportedError(f"{model.label}: '{value.name}' is no tensor")
    return value.type


def _ranks(signatures: Sequence[Signature], model: LibraryModel) -> list[int]:
    ranks = signatures[0].output_ranks
    if any(signature.output_ranks != ranks for signature in signatures):
        raise UnsupportedError(f"{model.label}: an output has another number of dimensions in each signature")
    return list(ranks)


def _input_bounds(signatures: Sequence[Signature], number: int) -> tuple[list[int], list[int]]:
    shapes = [signature.shapes[number] for signature in signatures]
    low = [[size if isinstance(size, int) else size.smallest for size in shape] for shape in shapes]
    high = [[size if isinstance(size, int) else size.largest for size in shape] for shape in shapes]
    return [min(sizes) for sizes in zip(*low, strict=True)], [max(sizes) for sizes in zip(*high, strict=True)]


def _written(
    library: str,
    target_name: str,
    target: Target,
    parts: Sequence[_Part],
    weights: WeightPool,
    is_apart: bool,
    folder: Path,
    staging: _Staging,
    linker: str | None,
    needed: Sequence[str],
    start: float,
) -> Library:
    from mace_core.native.archive import Member, write_archive
    from mace_core.native.relocatable import DataSection, Relocatable

    report("writing", 0, 1)
    libraries = Path("lib") / target_name
    weights_path, apart = libraries / f"{library}.weights", None
    if is_apart:
        apart = write_weights(staging.path(weights_path), weights.parts, target_name)
    objects = _objects(parts, target, target_name, apart)
    data = [] if is_apart else [DataSection(_WEIGHTS, weights.parts, 64)]
    data += [DataSection(f"{p.symbol}.tables", [p.tables.words.astype("<i8").data.cast("B")], 64) for p in parts]
    exports = [f"{part.symbol}_model" for part in parts]
    merged = Relocatable(objects, exports, data)
    foreign = sorted(merged.imports - _allowed(target))
    if foreign:
        raise UnsupportedError(
            f"the kernels of '{library}' call '{', '.join(foreign)}' of the C library's mathematics, which the target "
            f"'{target_name}' cannot be trusted with: its systems disagree on how floats are passed"
        )
    object_path = staging.path(libraries / f"{library}.o")
    with object_path.open("wb") as file:
        object_bytes = merged.write(file)
    archive_path = staging.path(libraries / f"lib{library}.a")
    with archive_path.open("wb") as file:
        archive_bytes = write_archive(file, [Member(object_path, exports)])
    shared_path = libraries / f"lib{library}.so"
    shared = _Shared(object_path, target_name, shared_path, exports, linker, needed, staging)
    header = header_text(
        library, [HeaderModel(p.symbol, p.model.file, p.inputs, p.outputs, p.states) for p in parts], _MADE_BY
    )
    staging.path(Path("include") / f"{library}.h").write_text(header, encoding="utf-8")
    for runtime in runtime_headers():
        shutil.copyfile(runtime, staging.path(Path("include") / runtime.name))
    staging.path(cmake_path(library)).write_text(cmake_text(library, _MADE_BY), encoding="utf-8")
    sizes: SectionSizes = merged.sizes
    files = staging.publish()
    if shared.found is None:
        (folder / shared_path).unlink(missing_ok=True)  # of a build before, and of other content
    if not is_apart:
        (folder / weights_path).unlink(missing_ok=True)
    if shared.error is not None:
        raise shared.error
    report("writing", 1, 1)
    return Library(
        library,
        target_name,
        folder,
        tuple(files),
        tuple(part.built() for part in parts),
        len({symbol for part in parts for symbol in part.kernels}),
        sizes.code,
        weights.nbytes,
        sizes.constants + sizes.variables + sizes.data - (0 if is_apart else weights.nbytes),
        object_bytes,
        archive_bytes,
        shared.found.nbytes if shared.found else 0,
        shared.found.linker if shared.found else "",
        shared.missing,
        tuple(sorted(merged.imports - {"_GLOBAL_OFFSET_TABLE_"})),
        time.perf_counter() - start,
        folder / weights_path if is_apart else None,
    )


class _Shared:
    """A shared library that was made, or why there is none."""

    def __init__(
        self,
        object_path: Path,
        target: str,
        relative: Path,
        exports: Sequence[str],
        linker: str | None,
        needed: Sequence[str],
        staging: _Staging,
    ) -> None:
        self.found: LinkedLibrary | None = None
        self.error: LinkError | None = None
        self.missing = ""
        try:
            out = object_path.with_name(relative.name)
            self.found = link_shared([object_path], target, out, exports, linker, needed)
            staging.path(relative)
        except LinkerMissingError as error:
            self.missing = str(error)
        except LinkError as error:
            self.error = error


def _objects(parts: Sequence[_Part], target: Target, target_name: str, weights: WeightFile | None) -> dict[str, bytes]:
    """Object code by name: kernels, what all models share, and what each model has."""
    from mace_core.native.arm_builtins import ARM_BUILTINS, arm_builtins_ir
    from mace_core.native.compiler import compile_module
    from mace_core.native.kernel import build_kernels
    from mace_core.native.mathematics import brought_along
    from mace_core.native.numba_kernel import numba_source
    from mace_core.native.relocatable_parts import imports_of

    module = "mace_core.native.library_kernels"
    sources = [numba_source(module, name) for name in LibraryKernels._fields]
    own = build_kernels(sources, target)
    has_threads = any(part.tables.most_threads > 1 for part in parts)
    runtime = runtime_ir(target, LibraryKernels(*(s.symbol for s in sources)), has_threads=has_threads)
    objects = {
        "mace_library": compile_module(
            runtime, [f"mace_library_{name}" for name in (*FUNCTIONS, CREATE_WITH)], "mace_library", target
        ),
        **own,
    }
    if target.architecture == "arm":
        objects["mace_arm_builtins"] = compile_module(arm_builtins_ir(), ARM_BUILTINS, "mace_arm_builtins", target)
    for part in parts:
        objects.update(part.kernels)
    for part in parts:
        ir = model_ir(part.facts(target_name, weights), target)
        objects[f"{part.symbol}.model"] = compile_module(ir, [f"{part.symbol}_model"], part.symbol, target)
    imports = {name for image in objects.values() for name in imports_of(image)}
    objects.update(build_kernels(brought_along(imports, target), target))
    return objects


def _allowed(target: Target) -> frozenset[str]:
    """What a library may want from the C library."""
    from mace_core.native.loader import ALLOWED_IMPORTS, ARM_FUNCTIONS

    return _ALLOWED | (ALLOWED_IMPORTS if target.pointer_bits == 64 else ARM_FUNCTIONS)


class _Staging:
    """Files that are made beside a folder, and moved into it once all are whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: list[Path] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Staging:
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            if self._folder.exists() and not self._folder.is_dir():
                raise UsageError(f"'{self._folder}' is a file; a library is written into a folder")
            place = self._folder if self._folder.name else self._folder / "library"  # "." is nothing that has a beside
            self._staged = self._stack.enter_context(staging_folder(place))
        except OSError as error:
            raise MaceError(f"'{self._folder}' cannot be written: {error.strerror or error}") from None
        return self

    def path(self, relative: Path) -> Path:
        """Where a file is to be written for now."""
        path = self._staged / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        self._paths.append(relative)
        return path

    def publish(self) -> list[Path]:
        """Move all files to their places."""
        found = []
        for relative in self._paths:
            place = self._folder / relative
            place.parent.mkdir(parents=True, exist_ok=True)
            (self._staged / relative).replace(place)
            found.append(place)
        return found

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._stack.close()
        if isinstance(error, OSError):
            raise MaceError(f"'{self._folder}' cannot be written: {error.strerror or error}") from None

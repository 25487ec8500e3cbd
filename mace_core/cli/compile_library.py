"""What `mace compile --target` does: libraries for C and C++ programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_core.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from mace_core.ahead_of_time import Library, SizeRange
    from mace_core.cli.shared_options import OutputOptions
    from mace_core.scheduler.planning.specs import ValueSpec

    Inputs = dict[str, dict[str, ValueSpec]]
    Signature = dict[str, tuple[int | SizeRange, ...]]


_SHAPE_FORM = "NAME=1x3x224x224"


def compile_libraries(
    model: str,
    more: Sequence[str],
    targets: Sequence[str],
    out: Path | None,
    fixed: Sequence[str],
    shapes: Sequence[str],
    name: str,
    threads: int,
    linker: str,
    weights: str,
    android: bool,
    options: Sequence[str],
    output: OutputOptions,
) -> None:
    """Build a library for each target, and tell what is in it.

    Raises:
        MaceError: what `mace_core.ahead_of_time.build_library` raises, and UsageError for options that mean nothing.
    """
    from mace_core.ahead_of_time import TARGET_NAMES, build_library
    from mace_core.ahead_of_time.library import DEFAULT_THREADS, WEIGHT_PLACES
    from mace_core.cli.output import progress

    unknown = [target for target in targets if target not in TARGET_NAMES]
    if unknown:
        raise UsageError(f"--target {unknown[0]}: the targets are {', '.join(TARGET_NAMES)}")
    if weights not in ("", *WEIGHT_PLACES):
        raise UsageError(f"--weights {weights}: it is {' or '.join(WEIGHT_PLACES)}")
    models = _named_models(model, more, name)
    inputs = _inputs(models) if fixed or shapes else {}
    values = _values(inputs, fixed, shapes)
    signatures = _signatures(_without(inputs, values), _of_others(inputs, shapes, values))
    precision = _precision(options)
    folder = out if out is not None else Path(name or next(iter(models)))
    built: list[Library] = []
    for target in dict.fromkeys(targets):
        with progress(f"Building for {target}"):
            built.append(
                build_library(
                    models,
                    folder,
                    target=target,
                    shapes=signatures,
                    fixed=values,
                    name=name,
                    threads=threads or DEFAULT_THREADS,
                    linker=linker or None,
                    weights=weights or WEIGHT_PLACES[0],
                    for_android=android,
                    precision=precision,
                )
            )
    output.deliver(
        "compile", {"model": model, "out": str(folder), "libraries": list(map(_as_data, built))}, lambda: _print(built)
    )


def _precision(options: Sequence[str]) -> str:
    """The one option of a provider that libraries have."""
    found = "float32"
    for text in options:
        name, _, value = text.partition("=")
        if name != "cpu.precision":
            raise UsageError(f"--option {text} is for packages; with --target there is cpu.precision alone")
        found = value
    return found


def _named_models(model: str, more: Sequence[str], name: str) -> dict[str, str]:
    """The models by the prefix of their names in C: ``NAME=MODEL``, or the name of the file."""
    from mace_core.ahead_of_time.headers import symbol_of

    found = {symbol_of(name if name and not more else Path(model).stem): model}
    for text in more:
        given, equals, path = text.partition("=")
        if not equals:
            given, path = Path(text).stem, text
        symbol = symbol_of(given)
        if not given or not path or symbol in found:
            raise UsageError(
                f"--with {text}: write it NAME=MODEL, with a name of its own (there is {', '.join(found)})"
            )
        found[symbol] = path
    return found


def _inputs(models: dict[str, str]) -> Inputs:
    from mace_core.frontend.load import load_model
    from mace_core.scheduler.planning.specs import every_input

    return {name: {spec.name: spec for spec in every_input(load_model(path))} for name, path in models.items()}


def _without(inputs: Inputs, values: Mapping[str, Mapping[str, object]]) -> Inputs:
    """The inputs that no value was fixed for."""
    return {
        model: {name: spec for name, spec in specs.items() if name not in values.get(model, {})}
        for model, specs in inputs.items()
    }


def _of_others(inputs: Inputs, shapes: Sequence[str], values: Mapping[str, Mapping[str, object]]) -> list[str]:
    """What ``--shape`` says of inputs that no value was fixed for."""
    owners = ((text, *_owner(inputs, text, "--shape", _SHAPE_FORM)[:2]) for text in shapes)
    return [text for text, model, name in owners if name not in values.get(model, {})]


def _values(inputs: Inputs, texts: Sequence[str], shapes: Sequence[str]) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """The values of fixed inputs of each model: ``sr=16000``, of a model among others ``NAME:sr=…``."""
    from mace_core.cli.fixed_inputs import parse_fixed

    if not texts:
        return {}
    given: dict[str, list[str]] = {}
    sizes: dict[str, list[str]] = {}
    for option, form, each, found in (
        ("--set", "NAME=VALUE", texts, given),
        ("--shape", _SHAPE_FORM, shapes, sizes),
    ):
        for text in each:
            model, name, rest = _owner(inputs, text, option, form)
            found.setdefault(model, []).append(f"{name}={rest}")
    return {
        model: parse_fixed(each, list(inputs[model].values()), sizes.get(model, ())) for model, each in given.items()
    }


def _signatures(inputs: Inputs, texts: Sequence[str]) -> dict[str, list[Signature]]:
    """The shapes of each model: ``x=1x3x48x320..640``, of a model among others ``NAME:x=…``.

    Raises:
        UsageError: for what is no shape of an input, and where inputs have different numbers of shapes.
    """
    from mace_core.ahead_of_time import parse_shape

    given: dict[str, dict[str, list[tuple[int | SizeRange, ...]]]] = {name: {} for name in inputs}
    for text in texts:
        model, value, shape = _owner(inputs, text, "--shape", _SHAPE_FORM)
        try:
            given[model].setdefault(value, []).append(parse_shape(shape))
        except UsageError as error:
            raise UsageError(f"--shape {text}: {error}") from None
    return {name: _together(name, shapes) for name, shapes in given.items() if shapes}


def _owner(inputs: Inputs, text: str, option: str, form: str) -> tuple[str, str, str]:
    """Of ``INPUT=VALUE`` or ``MODEL:INPUT=VALUE`` the model, the input and the value."""
    if "=" not in text:
        raise UsageError(f"{option} {text}: write it {form}")
    # names may hold all that parts them from the rest: the longest that fits is meant, of equal ones that with a model
    found = [
        (len(start), start != f"{name}=", model, name)
        for model, specs in inputs.items()
        for name in specs
        for start in (f"{name}=", f"{model}:{name}=")
        if text.startswith(start)
    ]
    if not found:
        known = ", ".join(f"'{one}'" for specs in inputs.values() for one in sorted(specs))
        where = text.partition("=")[0]
        raise UsageError(f"{option} {text}: there is no input '{where}'; the inputs are {known}")
    length, is_of_model, model, name = max(found)
    owners = [each[2] for each in found if each[:2] == (length, is_of_model)]
    if len(owners) > 1:
        raise UsageError(
            f"{option} {text}: {' and '.join(owners)} have an input '{name}'; say which, like {owners[0]}:{text}"
        )
    return model, name, text[length:]


def _together(model: str, given: dict[str, list[tuple[int | SizeRange, ...]]]) -> list[Signature]:
    count = max(map(len, given.values()))
    for name, shapes in given.items():
        if len(shapes) not in (1, count):
            raise UsageError(
                f"--shape: '{name}' of {model} has {len(shapes)} shapes, and another input has {count}; give as many "
                "for each, or one that holds for all"
            )
    return [{name: shapes[i if len(shapes) > 1 else 0] for name, shapes in given.items()} for i in range(count)]


def _as_data(library: Library) -> dict[str, Any]:
    def tensors(of: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"name": t.name, "type": t.type, "smallest": list(t.smallest), "largest": list(t.largest)} for t in of]

    return {
        "name": library.name,
        "target": library.target,
        "files": [str(file) for file in library.files],
        "kernels": library.kernels,
        "code_bytes": library.code_bytes,
        "weight_bytes": library.weight_bytes,
        "weights_path": None if library.weights_path is None else str(library.weights_path),
        "table_bytes": library.table_bytes,
        "object_bytes": library.object_bytes,
        "archive_bytes": library.archive_bytes,
        "shared_bytes": library.shared_bytes,
        "linker": library.linker,
        "linker_missing": library.linker_missing,
        "imports": list(library.imports),
        "seconds": library.seconds,
        "models": [
            {
                "symbol": model.symbol,
                "file": model.file,
                "inputs": tensors(model.inputs),
                "outputs": tensors(model.outputs),
                "plans": model.plans,
                "steps": model.steps,
                "instance_bytes": model.instance_bytes,
                "workspace_bytes": model.workspace_bytes,
                "most_threads": model.most_threads,
                "assumed": model.assumed,
                "equal": model.equal,
            }
            for model in library.models
        ],
    }


def _print(libraries: Sequence[Library]) -> None:
    from mace_core.ahead_of_time.headers import tensor_text
    from mace_core.cli.output import format_bytes, print_folded
    from mace_core.cli.verbosity import note

    for model in libraries[0].models:
        if model.assumed:
            note(f"{model.symbol}: sizes assumed for free dimensions: {model.assumed} (--shape sets them)")
        if model.equal:
            note(f"{model.symbol}: the model takes only {model.equal}; its program gives them the same size")
        print_folded(f"{model.symbol}_model(), from {model.file}")
        for kind, tensors in (("input", model.inputs), ("output", model.outputs)):
            for tensor in tensors:
                print_folded(f"  {kind} {tensor_text(tensor)}")
    for library in libraries:
        where = "" if library.weights_path is None else " in a file"
        print_folded(
            f"{library.target}: {library.kernels} kernels, code {format_bytes(library.code_bytes)}, weights "
            f"{format_bytes(library.weight_bytes)}{where}, tables {format_bytes(library.table_bytes)}; object "
            f"{format_bytes(library.object_bytes)} in {library.seconds:.1f} s"
        )
        for model in library.models:
            plans = f"{model.plans} plan{'s' * (model.plans != 1)} of {model.steps} steps in all"
            print_folded(
                f"  {model.symbol}: {plans}, up to {model.most_threads} threads; memory "
                f"{format_bytes(model.instance_bytes)} + workspace {format_bytes(model.workspace_bytes)}"
            )
        if library.linker_missing:
            note(library.linker_missing)
        else:
            print_folded(f"  shared library {format_bytes(library.shared_bytes)}, by {library.linker}")
    for file in dict.fromkeys(file for library in libraries for file in library.files):
        print_folded(f"{file} written")

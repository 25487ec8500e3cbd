"""`mace compile`: a model and what devices compile of it, in one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mace_core.cli.completion import complete_device
from mace_core.cli.options import Model, ProviderOptions, Threads
from mace_core.cli.shared_options import ContentOptions, OutputOptions, ReadingOptions, SampleOptions, shared_options

if TYPE_CHECKING:
    import numpy.typing as npt

    from mace_core.compilation import Compilation
    from mace_core.graph import Graph
    from mace_core.package import Sample
    from mace_core.processing import Step


@shared_options
def compile_command(
    model: Model,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            help="Write the package to this file, which ends in .mace; with --target the library into this folder "
            "(default: the name of the model).",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        list[str],
        typer.Option(
            "--device",
            "-d",
            metavar="NAME",
            help="Device to compile for, also one that is not on this machine, like hexagon:sm8650; may be repeated "
            "(see `mace devices`).",
            show_default=False,
            autocompletion=complete_device,
        ),
    ] = [],  # noqa: B006 - typer copies it
    target: Annotated[
        list[str],
        typer.Option(
            "--target",
            metavar="NAME",
            help="Build a library for C and C++ programs instead, for this processor: arm64-v8a, arm64-v8.2a, "
            "armeabi-v7a, riscv64, riscv64-v, x86-64, x86-64-v3, x86-64-v4 or host; may be repeated.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer copies it
    more: Annotated[
        list[str],
        typer.Option(
            "--with",
            metavar="NAME=MODEL",
            help="With --target: another model for the same library; may be repeated.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer copies it
    name: Annotated[
        str,
        typer.Option(
            "--name",
            metavar="NAME",
            help="With --target: how the library is called (default: as the model's file).",
            show_default=False,
        ),
    ] = "",
    linker: Annotated[
        str,
        typer.Option(
            "--linker",
            metavar="PROGRAM",
            help="With --target: what makes the shared library, a linker or a compiler, with arguments "
            "(default: MACE_LINKER, or the first that is found for the target).",
            show_default=False,
        ),
    ] = "",
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            metavar="PLACE",
            help="With --target: where the weights are, inside the library, or in a file beside it (default: inside).",
            show_default=False,
        ),
    ] = "",
    android: Annotated[
        bool,
        typer.Option(
            "--android",
            help="With --target: the shared library asks for Android's libc.so, so that System.loadLibrary and dlopen "
            "load it there by itself.",
        ),
    ] = False,
    shape: Annotated[
        list[str],
        typer.Option(
            "--shape",
            metavar="NAME=1x3x48x320",
            help="Shape of an input with free dimensions. Repeated for one input, it gives several signatures: the "
            "first shape of each input, the second of each, and so on; one that is given once holds for all. With "
            "--target a size may be a range, 320..640, or one in steps, 320..640:32.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer copies it
    fixed: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Make an input a constant: a number, numbers with commas, true, false or a .npy file. What depends on "
            "nothing else is computed beforehand, an If that it decides is one branch; may be repeated.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer copies it
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Rewrite nodes that a device refuses, where it takes another form (see `mace check`).",
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a node would not be in a compiled subgraph of each device.")
    ] = False,
    threads: Threads = 0,
    option: ProviderOptions = [],  # noqa: B006 - typer copies it
    reading: ReadingOptions,
    samples: SampleOptions,
    content: ContentOptions,
    output: OutputOptions,
) -> None:
    """Compile a model ahead of time: to one file with its graph, its weights and what devices compiled of it, or to a
    library for C and C++ programs.

    The file is run like any model, without the original: mace run model.mace. A device that what was compiled fits uses
    it without compiling; another one compiles from the graph in the file, and says why. With samples in it, the package
    proves itself on a device: mace validate model.mace.

    Examples:

      mace compile model.onnx --device hexagon:sm8650 -o model.mace

      mace compile model.onnx -d hexagon:v75 -d cpu -o model.mace --shape x=1x3x48x320 --shape x=1x3x48x640

      mace compile model.onnx -d cpu -o model.mace --sample picture.png --random-samples 1

      mace compile model.onnx --target arm64-v8a --target armeabi-v7a -o build --shape x=1x3x48x320..640

      mace compile vad.onnx --target arm64-v8a --set sr=16000 --shape input=1x576 --shape state=2x1x128
    """
    from mace_core.errors import UsageError

    if target:
        from mace_core.cli.compile_library import compile_libraries

        if device or strict or samples.is_asked_for or content.given or repair:
            flags = (("--device", device), ("--strict", strict), ("--repair", repair))
            other = next((name for name, given in flags if given), content.given or "a sample")
            raise UsageError(f"{other} is for packages, and --target builds a library: leave one of the two out")
        compile_libraries(
            model, more, target, out, fixed, shape, name, threads, linker, weights, android, option, output
        )
        return
    if more or name or linker or weights or android:
        texts = {"--with": more, "--name": name, "--linker": linker, "--weights": weights, "--android": android}
        given = next(flag for flag, value in texts.items() if value)
        raise UsageError(f"{given} is for libraries: name a --target, too")
    if not device:
        raise UsageError("name a --device to compile for (a package), or a --target (a library for C and C++)")
    if out is None:
        raise UsageError("give --out OUT.mace: where the package is to be written")
    from mace_core.cli.output import progress
    from mace_core.cli.parsing import parse_provider_options
    from mace_core.cli.written_files import check_target
    from mace_core.compilation import compile_model

    check_target("--out", out, (".mace",))
    options = parse_provider_options(option, threads)
    with progress(f"Compiling {model}"):
        before, after = content.steps()
        documents = content.documents()
        values, shape = _fixed(model, fixed, shape)
        signatures, chosen = _read(model, values, shape, samples, before, after)
        found = compile_model(
            model,
            out,
            devices=device,
            shapes=signatures,
            options=options,
            strict=strict,
            fixed=values,
            samples=chosen,
            sign_with=content.sign,
            repair=repair,
            before=before,
            after=after,
            documents=documents,
        )
    output.deliver("compile", _as_data(model, found), lambda: _print(found))


def _fixed(model: str, texts: Sequence[str], shapes: list[str]) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    """What ``--set`` says, for which the model is read, and what ``--shape`` says of the other inputs."""
    if not texts:
        return {}, shapes
    from mace_core.cli.fixed_inputs import parse_fixed, shapes_of_others
    from mace_core.frontend.load import load_model
    from mace_core.scheduler.planning.specs import every_input

    specs = every_input(load_model(model))
    values = parse_fixed(texts, specs, shapes)
    return values, shapes_of_others(shapes, specs, values)


def _read(
    model: str,
    fixed: Mapping[str, npt.NDArray[Any]],
    shapes: Sequence[str],
    options: SampleOptions,
    before: Sequence[Step],
    after: Sequence[Step],
) -> tuple[list[dict[str, tuple[int, ...]]], list[Sample]]:
    """The signatures and the samples, for which the model is read."""
    if not shapes and not options.is_asked_for:
        return [], []
    from mace_core.cli.samples import gather_samples
    from mace_core.frontend.load import load_model

    graph = load_model(model)
    if fixed:
        from mace_core.processing import fix_inputs

        graph = fix_inputs(graph, fixed)
    if before or after:
        from mace_core.processing import with_steps

        graph = with_steps(graph, before, after).graph
    signatures = _signatures(graph, shapes)
    return signatures, gather_samples(graph, f"'{model}'", options, signatures[0] if signatures else {})


def _signatures(graph: Graph, texts: Sequence[str]) -> list[dict[str, tuple[int, ...]]]:
    """The shapes of each signature.

    Raises:
        UsageError: for what is no shape of an input, and where inputs have different numbers of shapes.
    """
    if not texts:
        return []
    from mace_core.cli.inputs import parse_shapes
    from mace_core.errors import UsageError
    from mace_core.scheduler.planning.specs import spec_of

    specs = [spec_of(value) for value in graph.inputs]
    given: dict[str, list[tuple[int, ...]]] = {}
    for text in texts:
        for name, shape in parse_shapes([text], specs).items():
            given.setdefault(name, []).append(shape)
    count = max(map(len, given.values()))
    for name, shapes in given.items():
        if len(shapes) not in (1, count):
            raise UsageError(
                f"--shape: '{name}' has {len(shapes)} shapes, and another input has {count}; give as many for each, or "
                "one that holds for all"
            )
    return [{name: shapes[i if len(shapes) > 1 else 0] for name, shapes in given.items()} for i in range(count)]


def _as_data(model: str, found: Compilation) -> dict[str, Any]:
    return {
        "model": model,
        "out": str(found.out),
        "bytes": found.nbytes,
        "graph_bytes": found.graph_bytes,
        "weight_bytes": found.weight_bytes,
        "compiled_bytes": found.compiled_bytes,
        "packed_bytes": found.packed_bytes,
        "sample_bytes": found.sample_bytes,
        "assumed": found.assumed,
        "repairs": [each.as_data() for each in found.repairs],
        "targets": [
            {
                "device": each.device,
                "signature": each.signature,
                "nodes": each.nodes,
                "compiled": each.compiled,
                "share": each.share,
                "subgraphs": each.subgraphs,
                "bytes": each.nbytes,
                "compatibility": each.compatibility,
                "elsewhere": {why: list(names) for why, names in each.elsewhere.items()},
                "seconds": each.seconds,
            }
            for each in found.targets
        ],
    }


def _print(found: Compilation) -> None:
    from mace_core.cli.output import format_bytes, print_folded
    from mace_core.cli.verbosity import note

    if found.assumed:
        note(f"sizes assumed for free dimensions: {found.assumed} (--shape sets them)")
    for one in found.repairs:
        print_folded(one.summary())
        for rule, count in Counter(finding.rule for finding in one.mended).items():
            print_folded(f"  rewritten: {count} node{'s' * (count != 1)}: {rule}")
    for each in found.targets:
        made = f"{each.subgraphs} subgraph{'s' * (each.subgraphs != 1)}, {format_bytes(each.nbytes)}"
        print_folded(
            f"{each.device} at {each.signature or 'no inputs'}: {each.compiled} of {each.nodes} nodes "
            f"({each.share:.1%}) compiled in {each.seconds:.1f} s: {made}"
        )
        for why, names in each.elsewhere.items():
            listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            print_folded(f"  not compiled: {listed}: {why}")
    if not found.repairs and any(each.elsewhere for each in found.targets):
        note("mace check --device NAME tells which nodes other forms would mend, and --repair takes those")
    parts = [("graph", found.graph_bytes), ("weights", found.weight_bytes), ("compiled", found.compiled_bytes)]
    parts += [("weights in the forms of devices", found.packed_bytes)] if found.packed_bytes else []
    parts += [("samples", found.sample_bytes)] if found.sample_bytes else []
    shares = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts)
    print_folded(f"{found.out} written: {format_bytes(found.nbytes)} ({shares})")

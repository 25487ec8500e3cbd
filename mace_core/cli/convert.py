"""`mace convert`: what a deployment file of MACE describes, or one model, as packages and libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mace_core.cli.exit_codes import VERDICT
from mace_core.cli.shared_options import OutputOptions, ReadingOptions, shared_options

if TYPE_CHECKING:
    from mace_core.deployment.judge import Verdict
    from mace_core.deployment.outcome import Conversion

YML_SUFFIXES = (".yml", ".yaml")


def option_word(name: str) -> str:
    """An option as it is looked for: MACE writes ``--target_abis``, this command line ``--target-abis``."""
    return name.replace("_", "-")


@shared_options
def convert(
    model: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL]",
            help="A model file, or a deployment file (.yml), instead of --config.",
            show_default=False,
        ),
    ] = "",
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "--config-file",
            metavar="FILE.yml",
            help="The deployment file of MACE that says what to convert.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "--out",
            "-o",
            metavar="DIR|OUT.mace",
            help="The folder in which a folder of the library's name is made; of a single model, the package.",
        ),
    ] = Path("build"),
    target_abis: Annotated[
        str,
        typer.Option(
            "--target-abis",
            metavar="ABI[,ABI]",
            help="Build for these, instead of the file's: host, armeabi-v7a, arm64-v8a, arm64, armhf, riscv64, x86-64.",
            show_default=False,
        ),
    ] = "",
    target_socs: Annotated[
        str,
        typer.Option(
            "--target-socs",
            metavar="SOC[,SOC]",
            help="Compile for these systems on chip, like sm8650.",
            show_default=False,
        ),
    ] = "",
    quantize: Annotated[
        str,
        typer.Option(
            "--quantize",
            metavar="WORD",
            help="Instead of the file's: static (int8), dynamic, weights (8 bits), a16w8, int4-weight, fp16, bf16 or "
            "none.",
            show_default=False,
        ),
    ] = "",
    quantize_algorithm: Annotated[
        str,
        typer.Option(
            "--quantize-algorithm", metavar="NAME", help="How ranges are chosen: minmax, percentile, entropy or mse."
        ),
    ] = "minmax",
    calibration_data: Annotated[
        str,
        typer.Option(
            "--calibration-data",
            metavar="DIR",
            help="Samples to find ranges on, instead of the file's validation_inputs_data.",
            show_default=False,
        ),
    ] = "",
    optimize: Annotated[bool, typer.Option("--optimize/--no-optimize", help="Simplify the graph first.")] = True,
    validate: Annotated[
        bool, typer.Option("--validate/--no-validate", help="Compare the results with those of the original.")
    ] = True,
    libraries: Annotated[
        bool, typer.Option("--libraries/--no-libraries", help="Build libraries for C and C++ programs.")
    ] = True,
    model_graph_format: Annotated[
        str,
        typer.Option("--model-graph-format", metavar="file|code", help="Instead of the file's.", show_default=False),
    ] = "",
    model_data_format: Annotated[
        str, typer.Option("--model-data-format", metavar="file|code", help="Instead of the file's.", show_default=False)
    ] = "",
    quantize_stat: Annotated[
        bool,
        typer.Option("--quantize-stat", help="Quantize nothing; write the ranges of tensors to model/NAME.range."),
    ] = False,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            metavar="N",
            min=0,
            max=100,
            help="Runs with known results that go into each package; default: 1, if its inputs are small.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        bool, typer.Option("--html", help="Beside each package, write a page that shows the graph; it works offline.")
    ] = False,
    sign: Annotated[
        list[Path],
        typer.Option(
            "--sign",
            metavar="KEY.pem",
            help="Private Ed25519 key that signs the packages; may be repeated.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer copies it
    device_yml: Annotated[
        Path | None,
        typer.Option(
            "--device-yml",
            metavar="FILE.yml",
            help="A file of devices of MACE: it is checked, and told which of them each ABI serves.",
            show_default=False,
        ),
    ] = None,
    devices_to_run: Annotated[str, typer.Option("--devices-to-run", hidden=True)] = "",
    debug_mode: Annotated[bool, typer.Option("--debug-mode", hidden=True)] = False,
    address_sanitizer: Annotated[bool, typer.Option("--address-sanitizer", hidden=True)] = False,
    enable_micro: Annotated[bool, typer.Option("--enable-micro", hidden=True)] = False,
    reading: ReadingOptions,
    output: OutputOptions,
) -> None:
    """Convert the models of a deployment file: check, convert, quantize, compare, and build for each ABI.

    Options may be written with - or _, as MACE has them. The exit code is 3 if results differ by more than allowed.

    Examples:

      mace convert --config_file=mobilenet_v1.yml --target_abis=armeabi-v7a,arm64-v8a --quantize=static

      mace convert --config mobilenet_v1.yml --target-abis host --output build

      mace convert model.onnx -o model.mace
    """
    from mace_core.cli.output import progress
    from mace_core.cli.verbosity import note
    from mace_core.deployment.convert import convert_deployment
    from mace_core.deployment.one_model import convert_model
    from mace_core.deployment.outcome import as_data

    for name, given, reason in (
        ("devices_to_run", devices_to_run, "nothing is run on devices here; `mace_run` runs on this machine"),
        ("debug_mode", debug_mode, "there are no debug symbols to keep"),
        ("address_sanitizer", address_sanitizer, "there is no C++ to instrument"),
        (
            "enable_micro",
            enable_micro,
            "ahead-of-time builds need libc alone",
        ),
    ):
        if given:
            note(f"--{name} means nothing here: {reason}")
    path, is_config = _source_of(model, config)
    request = _request(
        output=out,
        target_abis=_listed(target_abis),
        target_socs=_listed(target_socs),
        quantize=quantize,
        algorithm=quantize_algorithm,
        optimize=optimize,
        validate=validate,
        graph_format=model_graph_format,
        data_format=model_data_format,
        calibration=calibration_data,
        libraries=libraries,
        gather_ranges=quantize_stat,
        samples=samples,
        sign_with=tuple(sign),
        draw=_draw if html else None,
    )
    _check_keys(sign)
    devices = _devices(device_yml)
    with progress(f"Converting {path}"):
        done = convert_deployment(path, request) if is_config else convert_model(path, request)
    done.notes += _served(devices, done.target_abis)
    output.deliver("convert", as_data(done), lambda: _print(done))
    if not done.is_good:
        raise typer.Exit(VERDICT)


def _check_keys(keys: list[Path]) -> None:
    """Refuse keys that sign nothing before the work is done."""
    if keys:
        from mace_core.package.keys import read_signing_key

        for key in keys:
            read_signing_key(key)


def _draw(package: Path, page: Path) -> None:
    """The page of `mace inspect`."""
    from mace_core.cli.inspect_page import summary
    from mace_core.errors import ModelError
    from mace_core.inspection import examine_model
    from mace_core.report.graph_page import write_graph_page

    found, graph, resolution = examine_model(str(package), {})
    if graph is None:
        raise ModelError(f"'{package.name}' has no graph to show: {found.problems[0].text}")
    write_graph_page(page, graph, {} if resolution is None else resolution.types, package.stem, summary(found))


def _devices(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    from mace_core.cli.verbosity import note
    from mace_core.deployment.devices_file import read_devices

    found, document = read_devices(path)
    for text in document.notes:
        note(text)
    return dict(found)


def _served(devices: dict[str, Any], abis: tuple[str, ...]) -> list[str]:
    if not devices:
        return []
    from mace_core.deployment.devices_file import served

    return served(devices, abis)


def _source_of(model: str, config: Path | None) -> tuple[Path, bool]:
    """What is to be converted, and whether it is a deployment file.

    Raises:
        UsageError: if there is nothing to read, or two files.
    """
    from mace_core.errors import UsageError

    if config is not None and model:
        raise UsageError(f"'{model}' and --config {config} are both given: convert one of them")
    if config is not None:
        return config, True
    if not model:
        raise UsageError("there is nothing to convert: give a deployment file with --config, or a model")
    return Path(model), Path(model).suffix.lower() in YML_SUFFIXES


def _request(**given: Any) -> Any:
    """
    Raises:
        UsageError: for a word that means nothing.
    """
    from mace_core.deployment.precision import WORDS
    from mace_core.deployment.request import Request
    from mace_core.errors import UsageError
    from mace_core.quantization.ranges import ALGORITHMS

    word = given.pop("quantize").lower()
    if word and word not in WORDS:
        raise UsageError(f"--quantize {word}: it is one of {', '.join(WORDS)}")
    if given["algorithm"] not in ALGORITHMS:
        raise UsageError(f"--quantize-algorithm {given['algorithm']}: it is one of {', '.join(ALGORITHMS)}")
    for name in ("graph_format", "data_format"):
        if given[name] not in ("", "file", "code"):
            raise UsageError(f"--model-{name.replace('_', '-')} {given[name]}: it is file or code")
    return Request(quantize=word or None, **given)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _print(done: Conversion) -> None:
    from mace_core.cli.output import format_bytes, print_folded, print_table
    from mace_core.cli.verbosity import note
    from mace_core.presentation import Column, Table, number

    for text in done.notes:
        note(text)
    rows = []
    for model in done.models:
        for text in model.notes:
            note(text)
        for text in model.warnings:
            note(f"{model.label}: {text}")
        rows.append(
            (
                model.label,
                model.precision,
                format_bytes(model.source_bytes),
                format_bytes(model.nbytes),
                ", ".join(model.compiled) or "-",
            )
        )
    print_table(
        Table((Column("model"), Column("precision"), number("source"), number("package"), Column("compiled for")), rows)
    )
    checks = [
        (
            model.label,
            each.output,
            each.device,
            _similarity(each),
            f"{each.sqnr_db:.1f}",
            f"{each.threshold:.3f}",
            each.failure or ("BELOW" if not each.is_good else "ok" if each.is_checked else "ran elsewhere"),
        )
        for model in done.models
        if model.judgement is not None
        for each in model.judgement.verdicts
    ]
    if checks:
        columns = (
            Column("model"),
            Column("output"),
            Column("device"),
            number("similarity"),
            number("SQNR dB"),
            number("at least"),
            Column("verdict"),
        )
        print_table(Table(columns, checks))
        judged = [model.judgement for model in done.models if model.judgement is not None]
        against = ", ".join(dict.fromkeys(f"{one.against} on {one.inputs}" for one in judged))
        print_folded(f"compared with {against}")
    _print_libraries(done)
    missing = [each.abi for each in done.libraries if each.failure]
    wrong = not all(model.is_good for model in done.models)
    said = "RESULTS DIFFER" if wrong else f"NOT BUILT for {', '.join(missing)}" if missing else "converted"
    print_folded(f"{said}: {done.folder}")


def _similarity(verdict: Verdict) -> str:
    """With as many digits as it takes to be seen to be below the threshold."""
    text = f"{verdict.similarity:.6f}"
    if not verdict.is_good and not verdict.failure and float(text) >= verdict.threshold:
        return f"{verdict.similarity:.12f}"
    return text


def _print_libraries(done: Conversion) -> None:
    from mace_core.cli.output import format_bytes, print_folded, print_table
    from mace_core.presentation import Column, Table, number

    rows = [
        (each.abi, path, format_bytes(size), format_bytes(each.code_bytes), format_bytes(each.weight_bytes))
        for each in done.libraries
        for path, size in each.files.items()
        if path.startswith("lib/") and path.endswith((".a", ".so", ".weights"))
    ]
    if rows:
        print_table(Table((Column("ABI"), Column("library"), number("size"), number("code"), number("weights")), rows))
    for each in done.libraries:
        if each.failure:
            print_folded(f"no library for {each.abi}: {each.failure}")

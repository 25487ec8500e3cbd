"""Options that several sub-commands share, one by one; `shared_options` groups them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mace_core.cli.completion import complete_device, complete_option

Model = Annotated[str, typer.Argument(metavar="MODEL", help="The model file.", show_default=False)]
Devices = Annotated[
    list[str],
    typer.Option(
        "--device",
        "-d",
        metavar="NAME",
        help="Device to use; may be repeated, in order of preference. 'cpu' means the first real device of that "
        "provider, 'opencl:0' exactly that one. Default: all real devices (see `mace devices`).",
        show_default=False,
        autocompletion=complete_device,
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Fail if a node cannot run on the devices named, instead of falling back.")
]
PolicyName = Annotated[
    str,
    typer.Option(
        "--policy",
        metavar="NAME",
        help="How nodes are shared among the devices: latency, throughput or power by measured cost (see `mace "
        "calibrate`); prefer_gpu, prefer_npu, cpu_only or order by the order of the devices. Default: order if devices "
        "are named, else latency.",
        show_default=False,
    ),
]
Pins = Annotated[
    list[str],
    typer.Option(
        "--pin",
        metavar="NODE=DEVICE",
        help="Run a node on this device, or in parts on several ('cpu + opencl:0'); may be repeated.",
        show_default=False,
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        "--threads",
        metavar="N",
        min=0,
        help="Number of threads of the cpu provider; 0 means as many as the machine allows.",
    ),
]
Shapes = Annotated[
    list[str],
    typer.Option(
        "--shape",
        metavar="NAME=1x3x48x320",
        help="Shape of an input with free dimensions; may be repeated. With a single input, NAME= may be omitted.",
        show_default=False,
    ),
]
ProviderOptions = Annotated[
    list[str],
    typer.Option(
        "--option",
        "-O",
        metavar="PROVIDER.NAME=VALUE",
        help="Option of a provider, like cpu.precision=bfloat16; may be repeated. `mace plugins` lists them.",
        show_default=False,
        autocompletion=complete_option,
    ),
]
Inputs = Annotated[
    list[str],
    typer.Option(
        "--input",
        "-i",
        metavar="NAME=FILE",
        help="Value of an input: a .npy file or a picture; may be repeated. With a single input, NAME= may be omitted.",
        show_default=False,
    ),
]
RandomInputs = Annotated[bool, typer.Option("--random", help="Fill inputs without a file with random numbers.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed for --random.")]
Layout = Annotated[
    str,
    typer.Option(
        "--layout",
        metavar="NCHW|NHWC",
        help="Layout of pictures as tensors; default: guessed from the shape of the input.",
    ),
]
Mean = Annotated[
    str,
    typer.Option(
        "--mean", metavar="M[,M,M]", help="Subtract this from pixels (0 to 255): one number, or one per channel."
    ),
]
Scale = Annotated[
    str,
    typer.Option("--scale", metavar="S[,S,S]", help="Then multiply by this; default: 1/255, or 1 for integer inputs."),
]
Resize = Annotated[
    str,
    typer.Option(
        "--resize", metavar="WxH", help="Resize pictures to this size; default: the size in the shape of the input."
    ),
]
Bgr = Annotated[bool, typer.Option("--bgr", help="Order the channels of a picture as blue, green, red.")]
Archive = Annotated[
    Path | None,
    typer.Option(
        "--npz",
        metavar="FILE",
        help="Values of several inputs by name, as numpy.savez writes them.",
        show_default=False,
    ),
]
TrustedKeys = Annotated[
    list[str],
    typer.Option(
        "--trusted-key",
        metavar="KEY.pub",
        help="Run nothing but a package that this public key has signed; may be repeated. Default: those of "
        "MACE_TRUSTED_KEYS, if it is set.",
        show_default=False,
    ),
]
Signature = Annotated[
    str,
    typer.Option(
        "--signature",
        metavar="NAME",
        help="Which graph of a TensorFlow Lite file with several signatures; mace inspect lists them. Default: "
        "serving_default, else the first.",
        show_default=False,
    ),
]
DynamicRange = Annotated[
    str,
    typer.Option(
        "--dynamic-range",
        metavar="integer|float",
        help="How products of floats with weights in integers are computed (TensorFlow Lite's dynamic range): integer, "
        "as LiteRT does, or float, which is nearer to the model before it was quantized. Default: integer.",
        show_default=False,
    ),
]
StepsBefore = Annotated[
    list[str],
    typer.Option(
        "--before",
        metavar="STEP",
        help="Step before the model that becomes a part of it, like 'picture size=224x224 fit=crop', or an .onnx file; "
        "may be repeated.",
        show_default=False,
    ),
]
StepsAfter = Annotated[
    list[str],
    typer.Option(
        "--after",
        metavar="STEP",
        help="Step after the model: 'softmax', 'classes top=5 labels=FILE', 'text labels=FILE', 'boxes scores=NAME', "
        "or an .onnx file; may be repeated.",
        show_default=False,
    ),
]
Reports = Annotated[
    list[Path],
    typer.Option("--report", metavar="FILE", help="Put a quantization report into the package.", show_default=False),
]
Licenses = Annotated[
    list[Path], typer.Option("--license", metavar="FILE", help="Put a license into the package.", show_default=False)
]
Cards = Annotated[
    list[Path], typer.Option("--card", metavar="FILE", help="Put a model card into the package.", show_default=False)
]
SigningKeys = Annotated[
    list[Path],
    typer.Option(
        "--sign",
        metavar="KEY",
        help="Sign the package with this private key; may be repeated (see `mace keygen`).",
        show_default=False,
    ),
]
SampleFiles = Annotated[
    list[str],
    typer.Option(
        "--sample",
        metavar="FILE",
        help="Put a sample into the package, by which it can prove itself: a picture or .npy file for a model of one "
        "input, .npz with an array for each input; may be repeated.",
        show_default=False,
    ),
]
RandomSamples = Annotated[
    int, typer.Option("--random-samples", metavar="N", min=0, max=100, help="Put N samples of random numbers into it.")
]
ExpectedFrom = Annotated[
    str,
    typer.Option(
        "--expected-from",
        metavar="MODEL",
        help="The model that computes what samples expect: the float model that a quantized one was made of. Default: "
        "the model itself.",
        show_default=False,
    ),
]
ExpectedBy = Annotated[
    str,
    typer.Option(
        "--expected-by",
        metavar="NAME",
        help="What runs it: onnxruntime, openvino or a device. Default: onnxruntime if it is installed and takes the "
        "model, else cpu.",
        show_default=False,
    ),
]
SampleTolerances = Annotated[
    list[str],
    typer.Option(
        "--sample-tolerance",
        metavar="DEVICE=T",
        help="Largest error that samples allow on a device, a provider or a kind (cpu, gpu, dsp, apu, npu), as a "
        "fraction of an output's range; may be repeated.",
        show_default=False,
    ),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Read model files that hold code (Python pickles); this runs the code."),
]
Json = Annotated[bool, typer.Option("--json", help="Print only JSON on standard output, also for errors.")]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json-file", metavar="FILE", help="Also write the JSON to a file.", show_default=False),
]
AllRows = Annotated[bool, typer.Option("--all", help="Show all rows of long tables, not the first ten.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show progress details on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes, warnings or progress on stderr; errors only.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")]

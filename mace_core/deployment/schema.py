"""The keys of a deployment file of MACE and what each may be; `read_deployment` fills them.

The schema is that of MACE's own converter (version 1.1), with the spellings of older files and the places where newer
ones put a key: what a model says holds for each of its graphs that does not say it itself.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mace_core.deployment.values import (
    Checksum,
    Ranges,
    Shapes,
    Switch,
    Text,
    Texts,
    Whole,
    as_list,
    each_of,
    library_name,
    model_name,
    one_of,
    real,
    shown,
    whole,
)

PLATFORMS = ("onnx", "tflite", "tensorflow", "caffe", "keras", "pytorch", "megengine")
"""Frameworks that a file may name; the first two are read."""

ABIS = ("host", "armeabi-v7a", "arm64-v8a", "arm64", "armhf", "riscv64", "x86-64", "x86-64-v3", "x86-64-v4")
RUNTIMES = ("cpu", "gpu", "cpu+gpu", "dsp", "hta", "htp", "apu")
PRECISIONS = ("fp16_fp32", "fp32_fp32", "bf16_fp32", "fp16_fp16", "uint8")
FORMATS = ("NONE", "NHWC", "NCHW", "OIHW")
ELEMENTS = ("float32", "float16", "bfloat16", "int32", "int16", "uint8", "int8", "int64", "bool")
SCHEMAS = ("uint8", "int8", "mace_apu_16bit_per_tensor", "mace_htp_u16a_s8w")
THRESHOLDS = ("cpu", "gpu", "hexagon", "hta", "htp", "apu", "quantize")
BACKENDS = ("tensorflow", "caffe", "caffe2", "pytorch", "kaldi", "onnxruntime")

_format = each_of(one_of(*FORMATS))
_element = each_of(one_of(*ELEMENTS, also={"float": "float32", "half": "float16"}))
abi_name = one_of(*ABIS, also={"aarch64": "arm64", "armv7l": "armhf", "x86_64": "x86-64"})
"""An ABI by its name, or by that which compilers give it."""


def _thresholds(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ValueError(f"is {shown(value)}; it takes a mapping from devices to numbers, like cpu: 0.999")
    named = one_of(*THRESHOLDS, also={"dsp": "hexagon"})
    found = {}
    for name, text in value.items():
        try:
            device = named(name)
        except ValueError as error:
            raise ValueError(f"has a device that {error}") from None
        number = real(text)
        if not -1.0 <= number <= 1.0:
            raise ValueError(f"says {number:g} for {device}; a cosine similarity is at most 1.0")
        found[device] = number
    return found


def abi_names(value: Any) -> tuple[str, ...]:
    """ABIs, as a list or as a text with commas."""
    parts = [part.strip() for item in as_list(value) for part in item.split(",") if part.strip()]
    if not parts:
        raise ValueError(f"names nothing; it is one or more of {', '.join(ABIS)}")
    return tuple(dict.fromkeys(abi_name(part) for part in parts))


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), hide_input_in_errors=True)


class GraphKeys(_Keys):
    """What one entry of ``subgraphs`` may say."""

    input_tensors: Texts
    input_shapes: Shapes
    output_tensors: Texts
    output_shapes: Shapes
    input_aliases: Texts = ()
    output_aliases: Texts = ()
    input_data_types: Annotated[tuple[str, ...], BeforeValidator(_element)] = ()
    output_data_types: Annotated[tuple[str, ...], BeforeValidator(_element)] = ()
    input_data_formats: Annotated[tuple[str, ...], BeforeValidator(_format)] = ()
    output_data_formats: Annotated[tuple[str, ...], BeforeValidator(_format)] = ()
    input_ranges: Ranges = ()
    check_tensors: Texts = ()
    check_shapes: Shapes = ()
    validation_inputs_data: Texts = ()
    validation_outputs_data: Texts = ()
    validation_threshold: Annotated[dict[str, float], BeforeValidator(_thresholds)] = Field(default_factory=dict)
    backend: Annotated[str, BeforeValidator(one_of(*BACKENDS))] = ""
    accuracy_validation_script: Texts = ()
    runtime: Annotated[str, BeforeValidator(one_of(*RUNTIMES, also={"hexagon": "dsp", "gpu+cpu": "cpu+gpu"}))] = ""
    data_type: Annotated[str, BeforeValidator(one_of(*PRECISIONS))] = ""
    quantize: Switch = False
    quantize_schema: Annotated[str, BeforeValidator(one_of(*SCHEMAS))] = ""
    quantize_large_weights: Switch = False
    quantize_range_file: Text = ""
    quantize_stat: Switch = False
    change_concat_ranges: Switch = False
    winograd: Annotated[str, BeforeValidator(one_of("0", "2", "4"))] = ""
    cl_mem_type: Annotated[str, BeforeValidator(one_of("image", "buffer"))] = ""
    graph_optimize_options: Texts = ()
    order: Whole = 0

    @model_validator(mode="after")
    def _fit(self) -> GraphKeys:
        for side in ("input", "output"):
            tensors = getattr(self, f"{side}_tensors")
            if not tensors or not all(tensors):
                raise ValueError(f"{side}_tensors names no tensor")
            if len(set(tensors)) != len(tensors):
                raise ValueError(f"{side}_tensors names '{_repeated(tensors)}' twice")
            count = len(tensors)
            for key in ("shapes", "aliases", "data_types", "data_formats", "ranges"):
                given = getattr(self, f"{side}_{key}", ())
                one_for_all = key in ("data_types", "data_formats", "ranges")
                is_left_out = not given and key != "shapes"
                if not is_left_out and len(given) != count and not (one_for_all and len(given) == 1):
                    raise ValueError(f"{side}_{key} has {len(given)} entries, and {side}_tensors has {count}")
            shapes, formats = getattr(self, f"{side}_shapes"), self.formats(side)
            for tensor, shape, form in zip(tensors, shapes, formats, strict=True):
                if form == "NCHW" and len(shape) != 4 and len(getattr(self, f"{side}_data_formats")) == count > 1:
                    raise ValueError(f"{side}_data_formats says NCHW for '{tensor}', which has {len(shape)} dimensions")
        if len(self.check_tensors) != len(self.check_shapes):
            raise ValueError(
                f"check_tensors has {len(self.check_tensors)} entries, and check_shapes has {len(self.check_shapes)}"
            )
        if self.quantize and self.quantize_large_weights:
            raise ValueError("quantize and quantize_large_weights are both 1; choose one of them")
        return self

    def formats(self, side: str) -> tuple[str, ...]:
        """The layout of each tensor of ``side`` ("input" or "output"); NHWC where nothing is said."""
        return self._each(side, "data_formats", "NHWC")

    def elements(self, side: str) -> tuple[str, ...]:
        """The element type of each tensor; "" where nothing is said."""
        return self._each(side, "data_types", "")

    def aliases(self, side: str) -> tuple[str, ...]:
        """What each tensor is called in the converted model."""
        given: tuple[str, ...] = getattr(self, f"{side}_aliases") or getattr(self, f"{side}_tensors")
        return given

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """Of the numbers of each input; -1 to 1 where nothing is said."""
        given = self.input_ranges or ((-1.0, 1.0),)
        return given * len(self.input_tensors) if len(given) == 1 else given

    def _each(self, side: str, key: str, default: str) -> tuple[str, ...]:
        given: tuple[str, ...] = getattr(self, f"{side}_{key}") or (default,)
        return given * len(getattr(self, f"{side}_tensors")) if len(given) == 1 else given


def _repeated(names: tuple[str, ...]) -> str:
    return next(name for name in names if names.count(name) > 1)


SHARED = frozenset(GraphKeys.model_fields) - {"order"}
"""Keys that a model may say for all of its graphs."""


class ModelKeys(_Keys):
    """What a model may say, beside what its graphs may."""

    platform: Annotated[str, BeforeValidator(one_of(*PLATFORMS))]
    model_file_path: Text
    model_sha256_checksum: Checksum = ""
    weight_file_path: Text = ""
    weight_sha256_checksum: Checksum = ""
    subgraphs: dict[str, GraphKeys]
    limit_opencl_kernel_time: Switch = False
    opencl_queue_window_size: Whole = 0
    nnlib_graph_mode: Whole = 0
    obfuscate: Switch = False
    accelerator_api: Text = ""
    docker_image_tag: Text = ""
    dockerfile_path: Text = ""
    dockerfile_sha256_checksum: Text = ""
    micro: Any = None

    @model_validator(mode="after")
    def _fit(self) -> ModelKeys:
        if not self.subgraphs:
            raise ValueError("subgraphs has no graph; it takes one, with its input_tensors and output_tensors")
        if not self.model_file_path.strip():
            raise ValueError("model_file_path is empty")
        return self


class Deployment(_Keys):
    """A deployment file."""

    library_name: Annotated[str, BeforeValidator(library_name)]
    target_abis: Annotated[tuple[str, ...], BeforeValidator(abi_names)]
    target_socs: Texts = ()
    model_graph_format: Annotated[str, BeforeValidator(one_of("file", "code"))] = "file"
    model_data_format: Annotated[str, BeforeValidator(one_of("file", "code"))] = "file"
    apu_version_with_no_device: Annotated[int, BeforeValidator(lambda value: whole(value, least=-1))] = -1
    models: dict[Annotated[str, BeforeValidator(model_name)], ModelKeys]

    @model_validator(mode="after")
    def _fit(self) -> Deployment:
        if not self.models:
            raise ValueError("models has no model; it takes one or more, each under its name")
        if self.model_graph_format == "file" and self.model_data_format == "code":
            raise ValueError(
                "model_data_format is code, and model_graph_format is file: weights in code need the graph there too"
            )
        return self

"""Words that people use for devices elsewhere, and the provider of ours that each means."""

from __future__ import annotations

import re

_GPU = ("opencl", "GPUs run through OpenCL")
_CPU = ("cpu", "")
_DSP = ("hexagon", "Qualcomm's DSP and NPU run through the Hexagon provider")
_INTEL = ("npu", "Intel's NPU runs through the NPU provider")
_WORDS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        (
            "gpu", "igpu", "dgpu", "cuda", "cudnn", "nvidia", "tensorrt", "nvtensorrtrtx", "rocm", "hip", "amd",
            "migraphx", "vulkan", "webgpu", "metal", "mps", "coreml", "dml", "directml", "adreno", "mali", "cl", "ocl",
            "xpu", "sycl", "graphics",
        ),
        _GPU,
    ),
    **dict.fromkeys(("processor", "x86", "x64", "arm", "host", "xnnpack", "mlas", "dnnl", "onednn", "mkldnn"), _CPU),
    **dict.fromkeys(("dsp", "htp", "qnn", "qualcomm", "snapdragon", "snpe", "cdsp"), _DSP),
    **dict.fromkeys(("openvino", "vpu", "intel"), _INTEL),
    **dict.fromkeys(
        ("mediatek", "neuron", "neuropilot", "dimensity"), ("apu", "MediaTek's APU runs through the APU provider")
    ),
    **dict.fromkeys(("onnx", "onnxruntime", "ort", "python", "numpy"), ("reference", "")),
}  # fmt: skip


def meant_by(name: str) -> tuple[str, str] | None:
    """The provider that ``name`` means where it is another program's word for a device, and a sentence about it or
    "": of ``gpu``, ``cuda:0``, ``CUDAExecutionProvider``."""
    word = re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower()).removesuffix("executionprovider")
    if word in ("cpu", "opencl", "hexagon", "apu", "npu", "reference"):
        return (word, "") if word != name else None
    return _WORDS.get(word)

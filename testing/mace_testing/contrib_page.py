"""``python -m mace_testing.contrib_page FILE``: the documentation page about the operators of com.microsoft."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mace_testing.fuzzing.case import CONTRIB
from mace_testing.fuzzing.registry import covered

KERNELS = frozenset(
    {"BiasGelu", "DynamicQuantizeLSTM", "FastGelu", "GatherBlockQuantized", "Gelu", "MatMulNBits", "QuickGelu"}
)
"""What the CPU provider runs as it is; everything else becomes operators of the standard."""

WRITERS = (
    ("onnxruntime's quantization tool", (
        "DequantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "GatherBlockQuantized",
        "MatMulIntegerToFloat", "MatMulNBits", "QAttention", "QGemm", "QLinearAdd", "QLinearAveragePool",
        "QLinearConcat",
        "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid", "QLinearSoftmax",
        "QLinearWhere", "QuantizeLinear",
    )),
    ("onnxruntime's graph optimizer (models saved after it)", (
        "FusedConv", "FusedGemm", "FusedMatMul", "NhwcMaxPool", "QLinearConv", "TransposeMatMul",
    )),
    ("transformer optimizer, Olive, onnxruntime-genai, optimum", (
        "Attention", "BiasGelu", "EmbedLayerNormalization", "FastGelu", "Gelu", "GroupQueryAttention",
        "MultiHeadAttention", "QuickGelu", "RotaryEmbedding", "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    )),
    ("older exporters of PyTorch and Keras", (
        "CDist", "ExpandDims", "GatherND", "GridSample", "Pad", "Trilu", "UnfoldTensor",
    )),
)  # fmt: skip

LIMITS = {
    "Attention": "no `do_rotary`, no cache shared between past and present, no mask of four axes",
    "DynamicQuantizeLSTM": "constant weights; each sequence of a batch is rounded alone; off the CPU in float",
    "FusedMatMul": "no `transBatchA`, `transBatchB`",
    "GatherBlockQuantized": "off the CPU: tables of bytes, gathered along the first axis, blocks along the last",
    "GridSample": "as the standard's",
    "GroupQueryAttention": "no quantized cache, window-sized cache, norm weights, query lengths or scores as an output",
    "MatMulNBits": "constant weights, not prepacked; unpacked to floats once off the CPU",
    "MultiHeadAttention": "no cache indirection, no cache shared between past and present; packed forms have no judge",
    "QAttention": "as Attention",
    "QLinearSoftmax": "with models before opset 13, the last axis or the older meaning",
    "RotaryEmbedding": "not packed batches",
    "SkipLayerNormalization": "mean and deviation are not returned",
    "SkipSimplifiedLayerNormalization": "mean and deviation are not returned",
    "TransposeMatMul": "as FusedMatMul",
}

LEFT = (
    ("text", ("Tokenizer",)),
    ("a search over nested models", ("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch")),
    ("written for a few models only", (
        "AttnLSTM", "BifurcationDetector", "BranchwiseRMSNorm", "CausalConvWithState", "ConvTransposeWithDynamicPads",
        "CropAndResize", "DynamicTimeWarping", "EngramGate", "GatedAdd", "GatedDeltaNet", "GatedRMSNorm",
        "GatherPacked", "HyperConnectionPostMix", "HyperConnectionPreMix", "Inverse", "LinearAttention",
        "LinearAttentionGate",
        "MRotaryEmbedding", "MaxpoolWithMask", "MoEGroupRouter", "MurmurHash3", "NGramHashMapping",
        "NGramRepeatBlock", "SampleOp", "ScaledSiLU", "SparseAttention", "VarlenCausalConvWithState",
        "VarlenNGramHashMapping", "WordConvEmbedding",
    )),
    ("superseded by an operator above or of the standard", (
        "MatMulBnb4", "MatMulFpQ4", "MatMulInteger16", "QEmbedLayerNormalization", "Range",
        "SparseToDenseMatMul", "Unique",
    )),
    ("not done yet", ("DecoderMaskedMultiHeadAttention", "MoE", "QMoE")),
)  # fmt: skip

_HEAD = """# Operators of com.microsoft

This page lists the operators of this domain, which onnxruntime defines, and how MACE runs them.

- *Kernel*: the CPU provider runs the node as it is.
- *Body*: the core replaces the node by standard operators (attention becomes the standard Attention, one fused step on
  the CPU).  Any provider that claims all of them can run it.
- *Fuzzed*: `python -m mace_testing.fuzz --op NAME` compares the operator with onnxruntime.

Forms beyond the limits are refused with a reason, because there is no slow reference for this domain.
SimplifiedLayerNormalization, which onnxruntime defines in the standard domain, is a kernel too.

Regenerate this page with `python -m mace_testing.contrib_page docs/contrib-ops.md`.

| operator | written by | runs as | fuzzed | limits |
|---|---|---|---|---|
"""


def contrib_page() -> str:
    """The page in Markdown."""
    fuzzed = {op for domain, op in covered() if domain == CONTRIB}
    rows = []
    for writer, names in WRITERS:
        for name in names:
            form = "kernel, body elsewhere" if name in KERNELS else "body"
            rows.append(
                f"| {name} | {writer} | {form} | {'yes' if name in fuzzed else 'no'} | {LIMITS.get(name, '')} |"
            )
    left = [f"- {reason}: {', '.join(names)}" for reason, names in LEFT]
    tail = "\n\n## What onnxruntime runs on CPUs and MACE does not\n\n"
    return _HEAD + "\n".join(rows) + tail + "\n".join(left) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the page to the file named."""
    parser = argparse.ArgumentParser(prog="python -m mace_testing.contrib_page", description=__doc__)
    parser.add_argument("file", type=Path, help="where the page is written")
    options = parser.parse_args(arguments)
    options.file.write_text(contrib_page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Steps before and after a model, as parts of its graph: a picture goes in as it is, labels or text come out.

    model = with_steps("model.onnx", before=[Picture(size=(224, 224), mean=…, scale=…)], after=[Classes(labels=…)])
    mace.compile(model.graph, "model.mace", devices="cpu", without_steps=model.without)

Steps are built here, or are graphs of ONNX.  Everything is computed by operators of the graph, on the devices of the
session; no file is decoded.  `fix_inputs` decides the values of inputs once and for all.
"""

from mace_core.processing.describe import parse_step
from mace_core.processing.fixed import fix_inputs
from mace_core.processing.merge import Processed, with_steps
from mace_core.processing.pictures import Picture
from mace_core.processing.results import Boxes, Classes, Softmax, Text
from mace_core.processing.sound import Sound
from mace_core.processing.step import OnnxStep, Step

__all__ = [
    "Boxes",
    "Classes",
    "OnnxStep",
    "Picture",
    "Processed",
    "Softmax",
    "Sound",
    "Step",
    "Text",
    "fix_inputs",
    "parse_step",
    "with_steps",
]

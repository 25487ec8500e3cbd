"""Compiling ahead of time: a model and what devices compile of it, in one file that is loaded without the model.

    mace.compile("model.onnx", "model.mace", devices=["hexagon:sm8650"])
    session = mace.Session("model.mace")

A device may be a target that is not on this machine.  What is compiled for it is used, without compiling, where a
device says that it fits; elsewhere the model is compiled from the graph in the file, and the reason is told.
"""

from mace_core.compilation.entry import compile_model
from mace_core.compilation.found import Compilation, CompiledTarget
from mace_core.scheduler.planning.settling import settled_shapes

__all__ = ["Compilation", "CompiledTarget", "compile_model", "settled_shapes"]

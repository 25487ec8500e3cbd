"""Differential fuzzing: random nodes and graphs, computed by a provider and by two independent judges.

`operators` has the strategies, one module per family; `case` is what they draw; `judges` asks onnx.reference and
onnxruntime; `verdict` compares; `known` lists where a judge is wrong, with the reason; `graphs` draws whole graphs, to
be cut in every way over several providers.  ``python -m mace_testing.fuzz`` is the long run by hand.

Needs hypothesis and onnxruntime (``pip install hypothesis onnxruntime``).
"""

"""Operators of ai.onnx.ml, which models of scikit-learn become; published under ``mace.operators``.

Where the standard is silent, they compute what onnxruntime computes.
"""

DOMAIN = "ai.onnx.ml"

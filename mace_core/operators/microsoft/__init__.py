"""Operators of com.microsoft, which exporters and onnxruntime write; published under ``mace.operators``.

Their bodies are made of operators of the standard.  What is known of them is from ContribOperators.md of onnxruntime;
where that and what onnxruntime accepts leave several forms of the same elements (a list, or a list in a matrix), the
number of elements is what must fit.
"""

DOMAIN = "com.microsoft"

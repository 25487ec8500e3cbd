"""Operators of steps before and after a model that ONNX has no words for.  The core runs them."""

DOMAIN = "mace.processing"
"""Their domain."""

CTC_TEXT = (DOMAIN, "CtcText")
"""Texts that a recognizer of lines has read: in each row of class numbers, repetitions count once, and blanks not."""

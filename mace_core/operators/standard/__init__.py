"""Operators of the ONNX standard, a module for each family."""

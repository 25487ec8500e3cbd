"""What MACE and its providers are judged with: the ONNX backend suite, a fuzzer, and runs between guard pages.

The conformance kit, which vendors run, is part of the core: `mace_core.testing`.
"""

"""A stand-in for rknn-toolkit2, for tests of the worker process: the calls of the toolkit, computed by onnxruntime."""

"""Runs a model through onnxruntime's own QNN execution provider: MODEL INPUTS.npz OUTPUT.npy LIBRARIES FP16."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

PROVIDER = "QNNExecutionProvider"


def main(model: str, inputs: str, output: str, library: str, half_precision: str) -> None:
    folder = Path(library)
    onnxruntime.register_execution_provider_library(PROVIDER, str(folder / "libonnxruntime_providers_qnn.so"))
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    settings = {"backend_path": str(folder / "libQnnHtp.so"), "soc_model": "57"}
    settings["enable_htp_fp16_precision"] = half_precision
    options.add_provider_for_devices(devices[:1], settings)
    session = onnxruntime.InferenceSession(model, options)
    with np.load(inputs) as feeds:
        np.save(output, session.run(None, dict(feeds))[0])


if __name__ == "__main__":
    main(*sys.argv[1:])

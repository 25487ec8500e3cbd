"""What the tests share: the stand-in, built once with the system's C compiler, and opening it."""

from __future__ import annotations

import ctypes as c
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
from mace_apu.backend import ApuBackend
from mace_apu.neuron.constants import Result
from mace_apu.provider import ApuProvider

from mace_core.provider import Backend, Device
from mace_core.testing.network import NetworkBuilder

SOURCES = Path(__file__).parent / "stand_in"
SHAPE = (1, 3, 20, 18)
"""Of the input of `small_network`."""

NAME = "libneuron_adapter.so"
FLAGS = (
    *("-std=gnu11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"),
    *("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno"),
)


def compiler() -> str | None:
    """The system's C compiler."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@functools.cache
def build(*definitions: str) -> Path:
    """The folder of the stand-in, built if this user has none of these sources; workers share it."""
    sources = sorted(SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256(repr((definitions, FLAGS)).encode())
    for source in sources:
        digest.update(source.read_bytes())
    folder = Path(tempfile.gettempdir(), f"mace-neuron-stand-in-{os.getuid()}", digest.hexdigest()[:16])
    library = folder / NAME
    if not library.is_file():
        found = compiler()
        assert found is not None
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f"{NAME}.{os.getpid()}"
        files = [str(path) for path in sources if path.suffix == ".c"]
        subprocess.run([found, *FLAGS, *definitions, "-o", str(made), *files, "-lm", "-pthread"], check=True)
        made.replace(library)
    return folder


class StandIn:
    """The loaded stand-in, told how to behave."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._library = c.CDLL(str(self.path))
        self._library.stand_in_message.restype = c.c_char_p
        self._library.stand_in_options.restype = c.c_char_p

    def fail(self, function: str, code: Result) -> None:
        """From now on a function returns ``code``; NO_ERROR mends it."""
        self._library.stand_in_fail(function.encode(), int(code))

    def fail_once(self, function: str, code: Result) -> None:
        """The next call of a function, or the next "computation", returns ``code``."""
        self._library.stand_in_fail_once(function.encode(), int(code))

    def refuse(self, operation: int, refuse: bool) -> None:
        """Run an operation no more, or again."""
        self._library.stand_in_refuse(operation, refuse)

    @contextmanager
    def failing(self, function: str, code: Result) -> Iterator[None]:
        """Within, a function returns ``code``."""
        self.fail(function, code)
        try:
            yield
        finally:
            self.fail(function, Result.NO_ERROR)

    @contextmanager
    def delayed(self, seconds: float) -> Iterator[None]:
        """Within, each computation takes so much longer."""
        self._library.stand_in_delay(int(seconds * 1e6))
        try:
            yield
        finally:
            self._library.stand_in_delay(0)

    @contextmanager
    def refusing(self, operations: Sequence[int]) -> Iterator[None]:
        """Within, some operations are not run."""
        for operation in operations:
            self.refuse(operation, True)
        try:
            yield
        finally:
            for operation in operations:
                self.refuse(operation, False)

    @contextmanager
    def version(self, major: int, minor: int, patch: int) -> Iterator[None]:
        """Within, it is another version when it is loaded."""
        self._library.stand_in_version(major, minor, patch)
        try:
            yield
        finally:
            self._library.stand_in_version(8, 2, 0)

    @property
    def live(self) -> int:
        """How many of its objects exist."""
        return int(self._library.stand_in_live())

    @property
    def preference(self) -> int:
        """The preference that it was told last."""
        return int(self._library.stand_in_preference())

    @property
    def options(self) -> str:
        """What the last compilation was told: ``name=value;`` for each call."""
        return str(self._library.stand_in_options().decode())

    @property
    def boost(self) -> int:
        """The boost that an execution was told last."""
        return int(self._library.stand_in_boost())

    @property
    def message(self) -> str:
        """What it complained of last."""
        return str(self._library.stand_in_message().decode())


def open_backend(device: Device, **options: object) -> ApuBackend:
    """Open a device; the caller closes it."""
    opened: Backend = ApuProvider().open(device, options)
    assert isinstance(opened, ApuBackend)
    return opened


def small_network() -> onnx.ModelProto:
    """Each kind of layer of a mobile network: x (1, 3, 20, 18) -> y (1, 10)."""
    net = NetworkBuilder("small", SHAPE, seed=3)
    x = net.relu6(net.conv("x", 3, 16, 3, stride=2))
    y = net.relu6(net.conv(x, 16, 16, 3, group=16))
    x = net.op("Add", x, net.conv(y, 16, 16, 1, gain=0.5))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return net.build(net.classifier(net.op("GlobalAveragePool", x), 16, 10), (1, 10))

"""Files that a deployment names are found, downloaded and checked; what is written is whole, or not there."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mace_core.cli.main import main
from mace_core.deployment.layout import building
from mace_core.deployment.yaml_tree import ConfigError

from .conftest import Convert, graph_of, model_of


class Handler(BaseHTTPRequestHandler):
    """Serves the folder that the test runs in; some paths misbehave."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        name = self.path.lstrip("/")
        if name == "moved":
            self.send_response(302)
            self.send_header("Location", "/small.onnx")
            self.end_headers()
        elif name in ("elsewhere", "ftp"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd" if name == "elsewhere" else "ftp://127.0.0.1/x")
            self.end_headers()
        elif name == "short":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"short")
        elif name == "noise":
            self.wfile.write(b"\x00\x01\x02 this is not HTTP\r\n\r\n")
        elif Path(name).is_file():
            content = Path(name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        """Not on the screen."""


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server of the folder, and a cache of its own."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(folder / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        served.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def url(server: Any, name: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/{name}"


@pytest.mark.parametrize("name", ["small.onnx", "moved"])
def test_a_model_is_downloaded_once(name: str, small: dict[str, Any], server: Any, convert: Convert) -> None:
    model_of(small)["model_file_path"] = url(server, name)
    assert convert(small)["ok"] is True
    count = len(server.asked)
    assert server.asked[0] == f"/{name}"
    assert convert(small)["ok"] is True
    assert len(server.asked) == count
    kept = list(Path("cache/downloads").iterdir())
    assert [path.stem for path in kept] == [model_of(small)["model_sha256_checksum"]]
    kept[0].write_bytes(b"damaged")
    assert convert(small)["ok"] is True
    assert len(server.asked) == 2 * count


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.onnx", "answers 404"),
        ("elsewhere", "Redirection to url 'file:///etc/passwd' is not allowed"),
        ("ftp", "it redirects to 'ftp://127.0.0.1/x'"),
        ("short", "ended after 5 of 1000 bytes"),
        ("noise", "cannot be downloaded from"),
        ("other.onnx", "it is another file, or a damaged one"),
    ],
)
def test_a_download_that_fails_leaves_nothing(
    name: str, told: str, small: dict[str, Any], server: Any, convert: Convert, folder: Path
) -> None:
    (folder / "other.onnx").write_bytes(b"another model")
    model_of(small)["model_file_path"] = url(server, name)
    message = convert(small, code=2)["error"]["message"]
    assert message.startswith("some.yml, line 9: ")
    assert told in message
    assert not list((folder / "cache" / "downloads").iterdir())
    assert not (folder / "build").exists()


def test_a_download_needs_a_checksum(small: dict[str, Any], server: Any, convert: Convert) -> None:
    model_of(small)["model_file_path"] = url(server, "small.onnx")
    del model_of(small)["model_sha256_checksum"]
    assert (
        "has no checksum; what is downloaded is believed only by its SHA-256"
        in convert(small, code=2)["error"]["message"]
    )
    assert server.asked == []


@pytest.mark.full
def test_what_cannot_be_written_is_called_as_the_user_does(small: dict[str, Any], folder: Path) -> None:
    """On a disk of too few bytes: a process may write files of so many alone."""
    resource = pytest.importorskip("resource")
    assert main(["convert", "small.onnx", "-o", "here.mace", "--no-validate"]) == 0
    program = (
        f"import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (2048, {resource.RLIM_INFINITY})); "
        "from mace_core.cli.main import main; raise SystemExit(main(['convert', 'small.onnx', '-o', 'here.mace']))"
    )
    before = (folder / "here.mace").read_bytes()
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], capture_output=True, text=True, check=False
    )  # -B: no cut-off .pyc
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "mace: error: the package 'here.mace' cannot be written: File too large"
    assert (folder / "here.mace").read_bytes() == before
    assert sorted(path.name for path in folder.glob(".*")) == []


def test_data_of_a_url_are_downloaded_once_and_told(
    small: dict[str, Any], server: Any, convert: Convert, folder: Path
) -> None:
    """Files of MACE name them so, and have no key for their checksum."""
    np.save(folder / "dog.npy", np.ones((1, 8, 8, 3), np.float32))
    graph_of(small)["validation_inputs_data"] = [url(server, "dog.npy")]
    found = convert(small)
    assert found["models"][0]["validation"]["inputs"] == "validation_inputs_data"
    digest = hashlib.sha256((folder / "dog.npy").read_bytes()).hexdigest()
    assert any(f"has no checksum and is believed as it is: SHA-256 {digest}" in note for note in found["notes"])
    assert convert(small)["ok"] is True
    assert server.asked == ["/dog.npy"]


def test_data_that_cannot_be_downloaded_are_an_error_with_a_way_out(
    small: dict[str, Any], server: Any, convert: Convert, folder: Path
) -> None:
    graph_of(small)["validation_inputs_data"] = [url(server, "none.npy")]
    message = convert(small, code=2)["error"]["message"]
    assert message.startswith("some.yml, line 20: validation_inputs_data cannot be downloaded: ")
    assert "name the file, or remove validation_inputs_data" in message
    assert not list((folder / "cache" / "downloads").iterdir())


def test_paths_begin_at_the_file_and_then_at_the_folder_of_the_command(
    small: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "project" / "sub").mkdir(parents=True)
    (folder / "project" / "small.yml").write_text(yaml.safe_dump(small), encoding="utf-8")
    assert main(["convert", "project/small.yml", "--no-libraries", "--no-validate"]) == 0
    assert "'small.onnx' is taken from the folder of the command, as MACE does" in capsys.readouterr().err
    (folder / "small.onnx").rename(folder / "project" / "small.onnx")
    monkeypatch.chdir(folder / "project" / "sub")
    assert main(["convert", "../small.yml", "--no-libraries", "--no-validate"]) == 0
    assert "folder of the command" not in capsys.readouterr().err


def test_a_folder_that_no_conversion_made_stays(small: dict[str, Any], convert: Convert, folder: Path) -> None:
    mine = folder / "build" / "small"
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("years of work", encoding="utf-8")
    assert "has files that no conversion made" in convert(small, code=2)["error"]["message"]
    assert (mine / "thesis.txt").read_text(encoding="utf-8") == "years of work"
    (mine / "thesis.txt").unlink()
    assert convert(small)["ok"] is True  # an empty folder is nobody's
    (mine / "added.txt").write_text("x", encoding="utf-8")
    assert convert(small)["ok"] is True
    assert not (mine / "added.txt").exists()


def test_a_link_in_the_place_of_the_folder_is_not_followed(
    small: dict[str, Any], convert: Convert, folder: Path
) -> None:
    (folder / "build").mkdir()
    (folder / "precious").mkdir()
    (folder / "build" / "small").symlink_to(folder / "precious")
    assert "is a link: remove it" in convert(small, code=2)["error"]["message"]
    assert list((folder / "precious").iterdir()) == []


def test_a_failure_leaves_what_was_there(small: dict[str, Any], convert: Convert, folder: Path) -> None:
    convert(small)
    before = {path: path.read_bytes() for path in (folder / "build").rglob("*") if path.is_file()}
    graph_of(small)["validation_inputs_data"] = ["none.npy"]
    convert(small, code=2)
    assert {path: path.read_bytes() for path in (folder / "build").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ConfigError])
def test_whatever_ends_the_work_leaves_nothing(error: type[BaseException], folder: Path) -> None:
    with pytest.raises(error), building(folder / "a" / "b" / "lib") as staging:
        (staging / "half").write_bytes(b"half")
        raise error
    assert list(folder.iterdir()) == []


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_a_conversion_leaves_nothing(
    number: signal.Signals, deployment: dict[str, Any], folder: Path
) -> None:
    """Sent at several moments of a real conversion."""
    (folder / "m.yml").write_text(yaml.safe_dump(deployment), encoding="utf-8")
    stopped = 0
    for moment in range(7):
        command = [sys.executable, "-m", "mace_core.cli.main", "convert", "m.yml", "--quantize", "static"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        if moment:
            time.sleep(0.7 * moment)
        else:  # once it has begun to write, however slow the machine is
            while process.poll() is None and not any((folder / "build").glob(".*")):
                time.sleep(0.01)
        process.send_signal(number)
        _, told = process.communicate()
        left = [path.name for path in (folder / "build").iterdir()] if (folder / "build").is_dir() else []
        assert left in ([], ["mobilenet"])
        if process.returncode == 128 + number:
            stopped += 1
            assert told.endswith(b"mace: stopped\n")
    assert stopped > 0


def test_a_checksum_is_of_the_file(small: dict[str, Any], convert: Convert, folder: Path) -> None:
    content = bytearray((folder / "small.onnx").read_bytes())
    content[-1] ^= 1
    (folder / "small.onnx").write_bytes(content)
    assert hashlib.sha256(content).hexdigest() in convert(small, code=2)["error"]["message"]

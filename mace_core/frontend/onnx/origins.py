"""What exporters write about the layers that nodes come from, beside what ONNX defines.

torch.onnx writes the path of the module and the stack of calls into the metadata of each node (``pkg.torch.onnx.*``);
its older exporter puts the path into the node's name and the stack into its documentation; tf2onnx keeps TensorFlow's
names, which are paths of layers.  `save_onnx` writes what MACE knows (``mace.*``), so that it survives a conversion.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mace_core.errors import printable
from mace_core.frontend.onnx.text import text
from mace_core.graph.origin import Origin

if TYPE_CHECKING:
    import onnx

LONGEST = 1 << 16
"""Characters of a text that is looked at."""

_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_FRAME = re.compile(r'File "([^"\n]+)", line (\d{1,9})[^\n]*(?:\n[ \t]+([^\n]*))?')
_OLD_FRAME = re.compile(r"^(\S.*?)\((\d{1,9})\): ", re.MULTILINE)
_OF_FRAMEWORK = ("/site-packages/", "/dist-packages/", "\\site-packages\\", "<")
_TF_CALLS = ("StatefulPartitionedCall/", "PartitionedCall/")


class OriginReader:
    """Reads the origins of the nodes of one model."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._producer = text(model.producer_name)

    def read(self, node: onnx.NodeProto) -> Origin | None:
        """Where a node comes from; None where nothing tells."""
        if node.metadata_props:
            given = {text(entry.key): text(entry.value)[:LONGEST] for entry in node.metadata_props}
            found = _of_mace(given) or _of_torch(given)
            if found is not None:
                return Origin(_line(found.module), _line(found.kind), _line(found.file), found.line, _line(found.code))
        if not node.name:
            return None
        if self._producer == "pytorch":
            return _of_older_torch(text(node.name), text(node.doc_string)[:LONGEST])
        return _of_tf2onnx(text(node.name)) if self._producer == "tf2onnx" else None


def write_origin(origin: Origin, node: onnx.NodeProto) -> None:
    """Put an origin into the metadata of a node."""
    place = f"{origin.file}:{origin.line}" if origin.file else ""
    for key, value in (("module", origin.module), ("kind", origin.kind), ("place", place), ("code", origin.code)):
        if value:
            node.metadata_props.add(key=f"mace.{key}", value=value)


def _of_mace(given: dict[str, str]) -> Origin | None:
    if not any(key.startswith("mace.") for key in given):
        return None
    file, _, line = given.get("mace.place", "").rpartition(":")
    module, kind, code = (given.get(f"mace.{key}", "") for key in ("module", "kind", "code"))
    return Origin(module, kind, file, int(line) if re.fullmatch(r"[0-9]{1,9}", line) else 0, code)


def _of_torch(given: dict[str, str]) -> Origin | None:
    """The last name of both lists is the operation's own; those before are the modules around it, outermost first."""
    scopes, kinds = _names(given.get("pkg.torch.onnx.name_scopes")), _names(given.get("pkg.torch.onnx.class_hierarchy"))
    trace = given.get("pkg.torch.onnx.stack_trace", "")
    if not scopes and not trace:
        return None
    module, kind = scopes[-2] if len(scopes) > 1 else "", kinds[-2] if len(kinds) > 1 else ""
    return Origin(
        module, kind, *_place([(file, int(line), code.strip()) for file, line, code in _FRAME.findall(trace)])
    )


def _of_older_torch(name: str, doc: str) -> Origin | None:
    """``/layers/layers.0/norm/BatchNormalization``: every part repeats the one before where that is a container."""
    frames = [(file, int(line), "") for file, line in _OLD_FRAME.findall(doc)]
    module, last = "", ""
    if name.startswith("/"):
        for part in name[1:].split("/")[:-1]:
            if last and part.startswith(f"{last}."):
                module = module[: len(module) - len(last)] + part
            else:
                module = f"{module}.{part}" if module else part
            last = part
    if not module and not frames:
        return None
    return Origin(module, "", *_place(frames[::-1]))  # that exporter writes the innermost call first


def _of_tf2onnx(name: str) -> Origin | None:
    for prefix in _TF_CALLS:
        name = name.removeprefix(prefix)
    module = name.rpartition("/")[0]
    return Origin(module) if module else None


def _place(frames: list[tuple[str, int, str]]) -> tuple[str, int, str]:
    """Of calls, the outermost first, the innermost that is not within an installed package."""
    own = [frame for frame in frames if not any(part in frame[0] for part in _OF_FRAMEWORK)]
    return (own or frames or [("", 0, "")])[-1]


def _line(text: str) -> str:
    """Text that a message may hold: anything can stand in a file."""
    return printable(" ".join(text.split()))


def _names(listed: str | None) -> list[str]:
    """The texts of a list as Python writes it."""
    return [single or double for single, double in _QUOTED.findall(listed or "")]

"""Reading a deployment file: old spellings, keys in the places that MACE lets them stand, mistakes in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError

from mace_core.deployment.schema import SHARED, Deployment, GraphKeys, ModelKeys
from mace_core.deployment.values import nearest, shown
from mace_core.deployment.yaml_tree import ConfigError, Document, Path, read_document
from mace_core.errors import shorten

DEFAULT_GRAPH = "default_graph"
"""What MACE calls the one graph of a list."""

_OLD_TOP = ("build_type", "embed_model_data")
_OLD_MODEL = ("dsp_mode",)

KeysAt: TypeAlias = Callable[[Path], tuple[str, ...]]
"""The keys that may stand where a path leads."""

MOST_MISTAKES = 20
"""Told at once."""


def read_deployment(path: FilePath, variables: Mapping[str, str] | None = None) -> tuple[Deployment, Document]:
    """Read a deployment file.

    Args:
        variables: what ``${NAME}`` stands for; the environment by default.

    Returns:
        What it says, and where it says it.

    Raises:
        ConfigError: for a file that cannot be read, and for every key or value that means nothing, all of them at once.
    """
    document = read_document(path, variables)
    return deployment_of(document), document


def deployment_of(document: Document) -> Deployment:
    """What a document says.

    Raises:
        ConfigError: as `read_deployment`.
    """
    normal = _Normal(document)
    tree = normal.deployment()
    mistakes = normal.mistakes
    try:
        deployment = Deployment.model_validate(tree)
    except ValidationError as error:
        mistakes = [*mistakes, *_mistakes(error, normal, _keys_at)]
    if mistakes:
        raise ConfigError(_told(document, mistakes))
    return deployment


def keys_without_value(document: Document) -> Any:
    """A document without the keys that have no value; a note tells each."""

    def cleaned(tree: Any, path: Path) -> Any:
        if isinstance(tree, list):
            return [cleaned(item, (*path, number)) for number, item in enumerate(tree)]
        if not isinstance(tree, dict):
            return tree
        for name, value in tree.items():
            if value is None:
                document.notes.append(
                    f"{document.place((*path, name))}: '{shorten(name)}' has no value, as if it were not there"
                )
        return {name: cleaned(value, (*path, name)) for name, value in tree.items() if value is not None}

    return cleaned(document.tree, ())


def mistakes_in(document: Document, error: ValidationError, levels: Mapping[int, tuple[str, ...]]) -> str:
    """All mistakes of a document of another kind, in words.

    Args:
        levels: the keys that there are, by the length of their paths.
    """
    found = _mistakes(error, _Normal(document), lambda path: levels.get(len(path), ()))
    return _told(document, found)


def _told(document: Document, mistakes: list[tuple[int, str]]) -> str:
    ordered = list(dict.fromkeys(sorted(mistakes, key=lambda each: each[0])))
    sentences = [f"{document.label}, line {line}: {text}" for line, text in ordered[:MOST_MISTAKES]]
    if len(ordered) == 1:
        return sentences[0]
    more = f"\n  … and {len(ordered) - MOST_MISTAKES} more" if len(ordered) > MOST_MISTAKES else ""
    return f"{len(ordered)} mistakes:\n  " + "\n  ".join(sentences) + more


class _Normal:
    """A document in the one form that the schema has.

    Attributes:
        mistakes: found on the way, each with its line.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._origins: dict[Path, Path] = {}  # where a key that was moved stands in the file
        self.mistakes: list[tuple[int, str]] = []

    def origin(self, path: Path) -> Path:
        """Where the file says what is at ``path`` of the normal form."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._origins:
                return (*self._origins[path[:length]], *path[length:])
        return path

    def line_of(self, path: Path) -> int:
        return self._document.line_of(self.origin(path))

    def deployment(self) -> dict[str, Any]:
        tree = self._without_empty(self._document.tree, ())
        tree = self._old_formats(tree)
        models = tree.get("models")
        if isinstance(models, dict):
            tree["models"] = {name: self._model(model, ("models", name)) for name, model in models.items()}
        return tree

    def _without_empty(self, tree: Mapping[str, Any], path: Path) -> dict[str, Any]:
        for name, value in tree.items():
            if value is None:
                place = self._document.place((*path, name))
                self._document.notes.append(f"{place}: '{shorten(name)}' has no value, as if it were not there")
        return {name: value for name, value in tree.items() if value is not None}

    def _old_formats(self, tree: dict[str, Any]) -> dict[str, Any]:
        """``build_type`` and ``embed_model_data``, which came before the two formats."""
        old = {name: tree.pop(name) for name in _OLD_TOP if name in tree}
        if "build_type" in old:
            kind = str(old["build_type"]).lower()
            if kind not in ("code", "proto"):
                self._wrong(("build_type",), f"is {shown(old['build_type'])}; it is code or proto")
            graph = "code" if kind == "code" else "file"
            self._replaced("build_type", f"model_graph_format: {graph}")
            tree.setdefault("model_graph_format", graph)
        if "embed_model_data" in old:
            if old["embed_model_data"] not in ("0", "1"):
                self._wrong(("embed_model_data",), f"is {shown(old['embed_model_data'])}; it is 0 or 1")
            data = "code" if old["embed_model_data"] == "1" and tree.get("model_graph_format") == "code" else "file"
            self._replaced("embed_model_data", f"model_data_format: {data}")
            tree.setdefault("model_data_format", data)
        return tree

    def _replaced(self, key: str, by: str) -> None:
        self._document.notes.append(f"{self._document.place((key,))}: '{key}' is an old spelling; read as '{by}'")

    def _model(self, model: Any, path: Path) -> Any:
        if not isinstance(model, dict):
            return model
        model = self._without_empty(model, path)
        if "dsp_mode" in model:
            self._origins[(*path, "nnlib_graph_mode")] = (*path, "dsp_mode")
            mode = model.pop("dsp_mode")
            model.setdefault("nnlib_graph_mode", mode)
        shared = {name: model.pop(name) for name in [*model] if name in SHARED}
        graphs = model.get("subgraphs")
        below = (*path, "subgraphs")
        if isinstance(graphs, list):
            if len(graphs) != 1:
                count = "no entry" if not graphs else f"{len(graphs)} entries"
                self._wrong(below, f"is a list of {count}; a list has one, several graphs are a mapping by their names")
            graphs = dict.fromkeys([DEFAULT_GRAPH], graphs[0]) if graphs else {}
            self._origins[(*below, DEFAULT_GRAPH)] = (*below, 0)
        if isinstance(graphs, dict):
            model["subgraphs"] = {name: self._graph(graph, name, below, shared) for name, graph in graphs.items()}
        return model

    def _graph(self, graph: Any, name: str, path: Path, shared: Mapping[str, Any]) -> Any:
        if not isinstance(graph, dict):
            return graph
        own = self._without_empty(graph, self.origin((*path, name)))
        for key, value in shared.items():
            if key not in own:
                own[key] = value
                self._origins[(*path, name, key)] = (*path[:-1], key)
        return own

    def _wrong(self, path: Path, text: str) -> None:
        self.mistakes.append((self._document.line_of(path), f"{_dotted(path)} {text}"))


def _mistakes(error: ValidationError, normal: _Normal, keys_at: KeysAt) -> list[tuple[int, str]]:
    found = error.errors(include_url=False, include_input=True)
    meant = {
        (*each["loc"][:-1], nearest(str(each["loc"][-1]), keys_at(_plain(each["loc"]))))
        for each in found
        if each["type"] == "extra_forbidden"
    }
    return [
        _mistake(each, normal, keys_at) for each in found if not (each["type"] == "missing" and each["loc"] in meant)
    ]


def _plain(path: Path) -> Path:
    return tuple(part for part in path if part != "[key]")


def _mistake(error: Any, normal: _Normal, keys_at: KeysAt) -> tuple[int, str]:
    path = _plain(error["loc"])
    line, where = normal.line_of(path), _dotted(normal.origin(path))
    kind = error["type"]
    if kind == "extra_forbidden":
        return line, f"{where}: {_unknown(path, keys_at(path))}"
    if kind == "missing":
        return normal.line_of(path[:-1]), f"{where} is missing{_hint(path)}"
    if kind == "value_error":
        text = str(error["ctx"]["error"])
        is_of_whole = error["loc"] and error["loc"][-1] == "[key]"
        if is_of_whole or not path or str(path[-1]) not in (*_FIELDS, *keys_at(path)):  # a rule about several keys
            return line, f"{where}: {text}" if where else text
        return line, f"{where} {text}"
    return line, f"{where} is {shown(error['input'])}; it takes {_wanted(kind)}"


_WANTED = {"model_type": "a mapping of keys", "dict_type": "a mapping", "string_type": "one text"}


def _wanted(kind: str) -> str:
    return _WANTED.get(kind, "another kind of value")


def _hint(path: Path) -> str:
    """What to write for a key that is not there."""
    example = {
        "library_name": "the name of the folder and of the library",
        "target_abis": "write [arm64-v8a], or [host] for this machine",
        "models": "each model under its name",
        "platform": "write onnx or tflite",
        "model_file_path": "a file or a URL",
        "subgraphs": "a list of one entry with input_tensors, input_shapes, output_tensors, output_shapes",
        "input_shapes": "one for each input, like 1,224,224,3",
        "output_shapes": "one for each output, like 1,1001",
        "input_tensors": "the names of the model's inputs",
        "output_tensors": "the names of the model's outputs",
    }.get(str(path[-1]))
    return f": {example}" if example else ""


def _unknown(path: Path, own: tuple[str, ...]) -> str:
    """What is wrong with a key that is none, and what was probably meant."""
    key = str(path[-1])
    near = nearest(key, own)
    if near:
        return f"there is no such key; did you mean '{near}'?"
    for level, keys in _LEVELS.items():
        if key in keys:
            return f"this key belongs to {level}"
    return f"there is no such key; here are {', '.join(sorted(own)[:8])}, …"


def _names(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(model.model_fields)


_LEVELS = {
    "the top of the file": (*_names(Deployment), *_OLD_TOP),
    "a model": (*_names(ModelKeys), *_OLD_MODEL, *SHARED),
    "an entry of subgraphs": _names(GraphKeys),
}


_FIELDS = frozenset(name for names in _LEVELS.values() for name in names)


def _keys_at(path: Path) -> tuple[str, ...]:
    top, model, graph = _LEVELS.values()
    return top if len(path) == 1 else model if len(path) == 3 else graph


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return shorten(text, 120)

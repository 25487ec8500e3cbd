"""YAML as a tree of texts, with the place of every key and value.

PyYAML reads the syntax.  What a text means (a number, a switch, a list written as text) is the schema's to say: so
``ON`` stays ``ON``, a checksum of digits stays a checksum, and no number is too large to be read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, TypeAlias

import yaml

from mace_core.errors import UsageError, shorten
from mace_core.frontend.file_kinds import similar_file

Tree: TypeAlias = "str | list[Any] | dict[str, Any] | None"
"""Scalars are texts; an empty one is None."""

Path: TypeAlias = "tuple[str | int, ...]"
"""Keys and numbers of items on the way to a value."""

LARGEST_BYTES = 1 << 20
DEEPEST = 24
MOST_VALUES = 20_000
"""Values in a file, those that aliases repeat counted each time.  Real files have a hundred."""

_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"
_CORE = "tag:yaml.org,2002:"
_TAGS = frozenset(
    f"{_CORE}{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "value", "seq", "map")
)
"""Of plain values, whether somebody wrote the tag or PyYAML found it."""
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class ConfigError(UsageError):
    """A deployment file, or a file that it names, says something that cannot be done."""


@dataclass(slots=True)
class Document:
    """A file that was read.

    Attributes:
        label: its name, for messages.
        tree: what it says.
        lines: where each key (or item) is, from 1.
        notes: what should be told of it.
    """

    label: str
    tree: dict[str, Any]
    lines: dict[Path, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def line_of(self, path: Path) -> int:
        """The line of a key, or of the nearest around it; 1 for the whole file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def place(self, path: Path) -> str:
        """``mobilenet.yml, line 12``."""
        return f"{self.label}, line {self.line_of(path)}"


def read_document(path: FilePath, variables: Mapping[str, str] | None = None) -> Document:
    """Read a file.

    Args:
        variables: what ``${NAME}`` stands for; the environment by default.

    Raises:
        ConfigError: if it is not there, is no YAML, is no mapping, or is larger than any deployment file.
    """
    label = shorten(str(path))
    content = _content(path, label)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{label}, line {line}: it is not UTF-8 text (byte {content[error.start]:#04x}); save it as UTF-8"
        ) from None
    return parse_document(text, label, os.environ if variables is None else variables)


def _content(path: FilePath, label: str) -> bytes:
    try:
        if path.exists() and not path.is_file():  # reading a pipe or a device might never end
            raise ConfigError(f"{label} is {'a folder' if path.is_dir() else 'no regular file'}; name a .yml file")
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except ConfigError:
        raise
    except FileNotFoundError:
        near = similar_file(path)
        meant = f"; did you mean '{path.with_name(near)}'?" if near else ""
        raise ConfigError(f"there is no deployment file '{label}'{meant}") from None
    except OSError as error:
        raise ConfigError(f"the deployment file '{label}' cannot be read: {error.strerror or error}") from None
    except ValueError:  # a NUL character in the path
        raise ConfigError(f"'{label}' is no name of a file") from None
    if len(content) > LARGEST_BYTES:
        raise ConfigError(f"{label} has more than {LARGEST_BYTES >> 20} MiB; no deployment file is as large")
    return content


def parse_document(text: str, label: str, variables: Mapping[str, str]) -> Document:
    """As `read_document`, of a text."""
    try:
        root = _Composer(text).get_single_node()
    except _TooDeepError as error:
        raise ConfigError(f"{label}, line {error.line}: values are nested more than {DEEPEST} deep") from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax(label, error)) from None
    except yaml.YAMLError as error:  # a character that no YAML has
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 1
        character = getattr(error, "character", None)
        what = f"the character {character:#x}" if isinstance(character, int) else "a character"
        raise ConfigError(f"{label}, line {line}: {what} cannot stand in YAML; remove it") from None
    if root is None:
        raise ConfigError(f"{label}: it is empty; a deployment file has library_name, target_abis and models")
    document = Document(label, {})
    tree = _Builder(document, variables).build(root, (), 0)
    if not isinstance(tree, dict):
        what = "a list" if isinstance(tree, list) else "one text"
        raise ConfigError(f"{label}: it is {what}; a deployment file has keys: library_name, target_abis, models")
    document.tree = tree
    return document


class _TooDeepError(Exception):
    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _Composer(yaml.SafeLoader):  # type: ignore[misc] # has no types
    """PyYAML's, which stops before nesting exhausts the stack."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > DEEPEST:
            raise _TooDeepError(self.peek_event().start_mark.line + 1)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Builder:
    def __init__(self, document: Document, variables: Mapping[str, str]) -> None:
        self._document = document
        self._variables = variables
        self._count = 0

    def build(self, node: Any, path: Path, depth: int) -> Tree:
        line = node.start_mark.line + 1
        self._document.lines.setdefault(path, line)
        self._count += 1
        if self._count > MOST_VALUES:
            raise ConfigError(
                f"{self._document.label}, line {line}: it has more than {MOST_VALUES} values, those that "
                "aliases repeat included; no deployment file needs as many"
            )
        if depth > DEEPEST:  # an alias of what it stands in
            raise ConfigError(f"{self._document.label}, line {line}: an alias repeats what it is a part of")
        if node.tag not in _TAGS:
            raise ConfigError(
                f"{self._document.label}, line {line}: the tag '{shorten(node.tag.replace(_CORE, '!!'), 60)}' means "
                "nothing here; remove it"
            )
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, line)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, number), depth + 1) for number, item in enumerate(node.value)]
        return self._mapping(node, path, depth)

    def _scalar(self, node: Any, line: int) -> str | None:
        if node.tag == _NULL and node.style is None:
            return None
        return _VARIABLE.sub(lambda found: self._value_of(found[1], line), node.value)

    def _value_of(self, name: str, line: int) -> str:
        if name not in self._variables:
            raise ConfigError(
                f"{self._document.label}, line {line}: the environment has no variable '{shorten(name, 60)}' for "
                f"${{{shorten(name, 60)}}}; set it"
            )
        return self._variables[name]

    def _mapping(self, node: Any, path: Path, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{self._document.label}, line {line}: a key is a text, not a list or a mapping")
            if key.tag == _MERGE:
                merged = {**merged, **self._merged(value, path, depth, line)}
                continue
            name = self._scalar(key, line) or key.value
            if name in found:
                first = self._document.lines[(*path, name)]
                where = ".".join(map(str, (*path, name)))
                raise ConfigError(
                    f"{self._document.label}, line {line}: '{shorten(where)}' is there already, in line {first}; "
                    "remove one of them"
                )
            self._document.lines[(*path, name)] = line
            found[name] = self.build(value, (*path, name), depth + 1)
        return {**merged, **found}

    def _merged(self, value: Any, path: Path, depth: int, line: int) -> dict[str, Any]:
        sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
        found: dict[str, Any] = {}
        for source in reversed(sources):
            if not isinstance(source, yaml.MappingNode):
                raise ConfigError(f"{self._document.label}, line {line}: << takes a mapping, or a list of them")
            built = self.build(source, path, depth + 1)
            assert isinstance(built, dict)
            found |= built
        return found


def _syntax(label: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = 1 if mark is None else mark.line + 1
    problem = " ".join((error.problem or "it cannot be read").split())
    if "\\t" in problem or "'\t'" in (error.problem or ""):
        problem = "a line begins with a tab, and YAML is indented with spaces"
    during = f" ({error.context})" if error.context and "tab" not in problem else ""
    return f"{label}, line {line}: it is not YAML: {problem}{during}"

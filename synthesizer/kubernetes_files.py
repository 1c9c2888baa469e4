"""Files, folders and text with Kubernetes objects in them → plain documents, each with the place it came from.

Invariant: what comes out is what JSON could hold (text keys, no dates, no cycles), and reading takes time and memory in
proportion to the text: nesting, aliases and decompression are bounded, whatever the text says.

YAML is built here from the C parser's events. That takes about a fifth of the time that `CSafeLoader` takes to make the
same objects, needs no recursion, and follows the API server's reading of plain scalars (dates stay text).
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
import yaml

from collector.errors import InventoryError

TEXT = 1 << 30  # bytes of one file, after decompression
DEPTH = 100  # nesting; Kubernetes objects stay below 30, custom resource definitions' schemas below 60
COPIES = 1_000_000  # nodes that the aliases of one document may stand for
SUFFIXES = (".yaml", ".yml", ".json", ".yaml.gz", ".yml.gz", ".json.gz")
# What lies in a folder of manifests without being one: kustomize's own file (it may have no kind), our own result.
NO_MANIFESTS = frozenset({"kustomization.yaml", "kustomization.yml", "leastway.json"})
PLAIN_TAGS = frozenset({None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:str"})

Document = dict[str, Any]


def read(paths: Iterable[str]) -> Iterator[tuple[str, object]]:
    """All documents of files and folders, as (where, document); empty documents are left out.

    A folder is read in the order of its names, with its subfolders, without what starts with a dot. Raises
    `InventoryError` for a path that is not there, a folder without manifests and text that cannot be read.
    """
    for path in paths:
        place = Path(path)
        for file in _manifests(place) if place.is_dir() else (place,):
            yield from documents(_content(file), str(file))


def documents(data: bytes, where: str, unique_keys: bool = False) -> Iterator[tuple[str, object]]:
    """The documents of one text, JSON if it starts like JSON, else YAML; `where` names the text in errors.

    Of a repeated key the last value counts, as it does for kubectl, unless `unique_keys` makes it an error, as strict
    decoding in the API server does.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data[:4096].lstrip()[:1] in (b"{", b"[") and not unique_keys:
        return _json(data, where)
    return _yaml(data, where, unique_keys)


def objects(found: Iterable[tuple[str, object]]) -> Iterator[tuple[str, Document]]:
    """The objects among documents: Lists are taken apart, and each object has a kind.

    The items of a typed list (`PodList`) take their kind from it. Raises `InventoryError` for anything else.
    """
    for where, document in found:
        pending = [(where, document)]
        while pending:
            place, value = pending.pop()
            kind = value.get("kind") if isinstance(value, dict) else None
            if not isinstance(value, dict) or not isinstance(kind, str) or not kind:
                what = "an object without a kind" if isinstance(value, dict) else f"not an object but {_shape(value)}"
                hint = "give objects as `kubectl get -o yaml` prints them, and leave other files out of the folder"
                raise InventoryError(f"{what} where a Kubernetes object was expected", where=place, hint=hint)
            items = value.get("items")
            if not kind.endswith("List") or not isinstance(items, list | None) or "items" not in value:
                yield place, value
                continue
            known = {"kind": kind[:-4], "apiVersion": value.get("apiVersion", "")} if kind != "List" else {}
            for number, item in reversed(list(enumerate(items or (), 1))):
                filled = {**known, **item} if isinstance(item, dict) else item
                pending.append((f"{place}, item {number}", filled))


def _manifests(folder: Path) -> list[Path]:
    found: list[Path] = []
    pending = [folder]
    while pending:
        for entry in _entries(pending.pop()):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                pending += [] if entry.is_symlink() else [entry]  # a link may lead back up
            elif entry.name.endswith(SUFFIXES) and entry.name not in NO_MANIFESTS:
                found.append(entry)
    if not found:
        hint = "their names must end in .yaml, .yml or .json"
        raise InventoryError("no manifests in this folder", where=str(folder), hint=hint)
    return sorted(found)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        hint = "check its permissions"
        raise InventoryError(f"cannot read it: {error.strerror}", where=str(folder), hint=hint) from None


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            data = (gzip.GzipFile(fileobj=raw) if packed else raw).read(TEXT + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:  # ValueError: a path that cannot exist
        reason = getattr(error, "strerror", None) or str(error)
        hint = "check the path and its permissions"
        raise InventoryError(f"cannot read it: {reason}", where=str(file), hint=hint) from None
    if len(data) > TEXT:
        hint = "split it, by namespace or by kind"
        raise InventoryError(f"more than {TEXT >> 20} MiB of text", where=str(file), hint=hint)
    return data


def _json(data: bytes, where: str) -> Iterator[tuple[str, object]]:
    try:
        found = [msgspec.json.decode(data)]
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        try:
            found = msgspec.json.Decoder().decode_lines(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise _unreadable(f"no valid JSON: {error}", where, data) from None
    if len(found) == 1 and isinstance(found[0], list):
        found = found[0]
    many = len(found) > 1
    for number, document in enumerate(found, 1):
        if document is not None:
            yield f"{where}, document {number}" if many else where, document


def _yaml(data: bytes, where: str, unique_keys: bool) -> Iterator[tuple[str, object]]:
    number = 0
    build = _Build(unique_keys)
    try:
        following = yaml.CSafeLoader(data).get_event
        while (event := following()) is not None:
            kind = type(event)
            if kind is yaml.ScalarEvent:
                build.scalar(event)
            elif kind is yaml.DocumentStartEvent:
                number += 1
                build = _Build(unique_keys)
            elif kind is yaml.DocumentEndEvent:
                if build.root is not None:
                    yield f"{where}, document {number}", build.root
            else:
                build.collection(kind, event)
    except (yaml.YAMLError, UnicodeError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        # The parser fails between documents too: what it could not start is the next one.
        place = f"{where}, document {max(number, 1)}" + (f", line {mark.line + 1}" if mark else "")
        problem = getattr(error, "problem", None) or str(error)
        raise _unreadable(f"no valid YAML: {problem}", place, data) from None


def _unreadable(message: str, where: str, data: bytes) -> InventoryError:
    template = b"{{" in data[: 1 << 20]
    hint = "render the chart first: `helm template`" if template else "write it again with `kubectl get -o yaml`"
    return InventoryError(message, where=where, hint=hint)


def _shape(value: object) -> str:
    names = {list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")


class _Frame:
    """A mapping or list that is being filled; `key` waits for its value; `size` counts nodes, aliases expanded."""

    __slots__ = ("anchor", "key", "node", "size")

    def __init__(self, node: Any, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: str | None = None
        self.size = 1


class _Build:
    """One document from its events. Raises ValueError for what Kubernetes objects cannot hold."""

    def __init__(self, unique_keys: bool) -> None:
        self.unique_keys = unique_keys
        self.top = _Frame([], None)  # what is being filled: at first the place of the document's one root
        self.outer: list[_Frame] = []  # the frames around it
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.copies = 0

    @property
    def root(self) -> Any:
        """The document, None if it is empty."""
        return self.top.node[0] if self.top.node else None

    def scalar(self, event: Any) -> None:
        """Add a key, a value or an entry."""
        if event.tag is not None and event.tag not in PLAIN_TAGS:
            raise ValueError(f"the tag {event.tag} has no meaning in a Kubernetes object")
        top, value = self.top, event.value
        # A key is text in JSON, so `8080: x` has the key "8080".
        is_key = top.key is None and type(top.node) is dict
        if not is_key and event.implicit[0] and not event.style:
            value = _plain(value)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, 1)
        self.place(value, 1)

    def collection(self, kind: type, event: Any) -> None:
        """Begin or end a mapping or list, or repeat one."""
        if kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            if event.tag not in PLAIN_TAGS:
                raise ValueError(f"the tag {event.tag} has no meaning in a Kubernetes object")
            if len(self.outer) >= DEPTH:
                raise ValueError(f"nested deeper than {DEPTH} levels")
            self.outer.append(self.top)
            self.top = _Frame({} if kind is yaml.MappingStartEvent else [], event.anchor)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            done = self.top
            self.top = self.outer.pop()
            if done.anchor is not None:
                self.anchors[done.anchor] = (done.node, done.size)
            self.place(done.node, done.size)
        elif kind is yaml.AliasEvent:
            if event.anchor not in self.anchors:
                raise ValueError(f"the alias *{event.anchor} has no anchor before it")
            value, size = self.anchors[event.anchor]
            self.copies += size
            if self.copies > COPIES:
                raise ValueError("its aliases stand for too many copies")
            self.place(value, size)

    def place(self, value: Any, size: int) -> None:
        """Put a finished value where it belongs."""
        top = self.top
        top.size += size
        node, key = top.node, top.key
        if type(node) is list:
            node.append(value)
        elif key is None:
            if not isinstance(value, str):
                raise ValueError("a key that is not text")
            if self.unique_keys and value in node:
                raise ValueError(f"the key {value[:40]!r} stands there twice")
            top.key = value
        else:
            if key == "<<":
                _merge(node, value)
            else:
                node[key] = value
            top.key = None


def _merge(node: Any, value: Any) -> None:
    """YAML's merge key: take what is not there already."""
    for source in value if isinstance(value, list) else [value]:
        if not isinstance(source, dict):
            raise ValueError("<< must name mappings")
        for key, inner in source.items():
            node.setdefault(key, inner)


_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS.update({word: True for lower in ("true", "yes", "on") for word in (lower, lower.title(), lower.upper())})
_WORDS.update({word: False for lower in ("false", "no", "off") for word in (lower, lower.title(), lower.upper())})
_NUMBER = re.compile(r"[-+]?(?:(0x[0-9a-fA-F]+)|(0[0-7]+)|(\d+)|(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?)", re.ASCII)


@lru_cache(maxsize=1 << 14)
def _plain(text: str) -> object:
    """What an unquoted scalar means in YAML 1.1 as Kubernetes reads it (sigs.k8s.io/yaml); dates stay text."""
    if text in _WORDS:
        return _WORDS[text]
    number = _NUMBER.fullmatch(text) if len(text) < 40 else None
    if number is None:
        return text
    hexadecimal, octal, decimal = number.groups()
    if hexadecimal or octal or decimal:
        return int(text, 16 if hexadecimal else 8 if octal else 10)
    return float(text) if isfinite(float(text)) else text

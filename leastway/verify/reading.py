"""YAML and JSON text → Kubernetes documents, and the strict field readers that all policy parsers share.

Invariant: nothing is skipped in silence. A field that a reader does not know is a `PolicyError` that names it, because
a policy with one field ignored means something else than its author wrote.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from leastway.verify.errors import PolicyError

if TYPE_CHECKING:
    import yaml

Document = dict[str, Any]
SUFFIXES = (".yaml", ".yml", ".json")
NO_MANIFESTS = frozenset({"kustomization.yaml", "kustomization.yml", "leastway.json"})  # may have no kind
DEPTH = 100  # nesting; Kubernetes objects stay below 60
# What opens block collections on one line: indentation and compact nested entries (`- - - x`, `? ? x`).
_NESTING = re.compile(r"^[-? \t:]+", re.MULTILINE)
_NO_SPACE = re.compile(r"\S")
_NETWORK = re.compile(r"[0-9A-Fa-f:.]+(/(0|[1-9][0-9]{0,2}))?")
NAME_LIMIT = 120  # characters of hostile text repeated in a message


def mapping(value: object, where: str, allowed: Collection[str] | None = None) -> dict[str, Any]:
    """`value` as a mapping with string keys, all of them in `allowed` (None = any)."""
    if not isinstance(value, dict):
        raise PolicyError(f"expected a mapping, got {_kind(value)}", where)
    for key in value:
        if not isinstance(key, str):
            raise PolicyError(f"field name {_short(key)} is not text", where)
    if allowed is not None:
        unknown = [key for key in value if key not in allowed]
        if unknown:
            raise PolicyError(f"unknown field {', '.join(_short(u) for u in sorted(unknown))}", where)
    return value


def optional(value: object, where: str, allowed: Collection[str] | None = None) -> dict[str, Any]:
    """Like `mapping`, with null read as the empty mapping."""
    return {} if value is None else mapping(value, where, allowed)


def sequence(value: object, where: str) -> list[Any]:
    """`value` as a list; null is the empty list."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise PolicyError(f"expected a list, got {_kind(value)}", where)
    return value


def text(value: object, where: str) -> str:
    """`value` as text. A number or bool that YAML made of unquoted text is refused, as the API server does."""
    if not isinstance(value, str):
        raise PolicyError(f"expected text, got {_kind(value)}", where, "quote the value")
    return value


def texts(value: object, where: str) -> tuple[str, ...]:
    """A list of texts."""
    return tuple(text(item, f"{where}[{i}]") for i, item in enumerate(sequence(value, where)))


def labels(value: object, where: str) -> dict[str, str]:
    """A mapping from text to text; null is the empty mapping."""
    found = optional(value, where)
    return {k: item if isinstance(item, str) else text(item, f"{where}[{_short(k)}]") for k, item in found.items()}


@lru_cache(maxsize=1 << 14)
def network(value: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A CIDR or address; host bits are dropped. Raises ValueError, also for forms that Python accepts but Kubernetes
    and Istio do not: netmasks, lengths with a leading 0, zones."""
    if _NETWORK.fullmatch(value) is None:
        raise ValueError(value)
    return ipaddress.ip_network(value, strict=False)


def _kind(value: object) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "a bool", int: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= NAME_LIMIT else shown[:NAME_LIMIT] + "..."


def documents(text_or_bytes: str | bytes, where: str = "input") -> list[Document]:
    """All Kubernetes objects in YAML or JSON text: document streams and Lists are flattened, empty documents skipped.

    Raises `PolicyError` for text that is not YAML, is nested deeper than `DEPTH`, or holds what is not a mapping.
    """
    import yaml

    found: list[Document] = []
    try:
        content = text_or_bytes if isinstance(text_or_bytes, str) else text_or_bytes.decode("utf-8-sig")
        for number, loaded in enumerate(_loaded(content)):
            if loaded is not None:
                found.extend(flatten(loaded, f"{where} document {number + 1}"))
    except yaml.YAMLError as error:
        raise PolicyError(f"not YAML: {str(error)[:300]}", where) from None
    except (RecursionError, ValueError, OverflowError) as error:  # too deep, not UTF-8, an impossible date or number
        raise PolicyError(f"not readable YAML: {str(error)[:200] or type(error).__name__}", where) from None
    return found


def _loaded(content: str) -> Iterator[object]:
    """The documents in a text. JSON, as `kubectl -o json` prints it, is YAML too, but much faster to read as JSON."""
    import yaml

    if content.lstrip()[:1] in ("{", "["):
        found = _json(content)
        if found is not None:
            yield from found
            return
    # libyaml's composer recurses in C and could crash the process, so the depth is checked before it runs.
    if content.count("[") + content.count("{") > DEPTH or any(len(m[0]) > DEPTH for m in _NESTING.finditer(content)):
        depth = 0
        for event in yaml.parse(content, Loader=_loader()):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > DEPTH:
                    raise ValueError(f"nested deeper than {DEPTH} levels")
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    yield from yaml.load_all(content, Loader=_loader())


def _json(content: str) -> list[object] | None:
    """One JSON document, or several in a row (`cat *.json`, JSON lines); None if it is not JSON, but flow style YAML,
    say."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while gap := _NO_SPACE.search(content, at):
        try:
            loaded, at = decoder.raw_decode(content, gap.start())
        except ValueError:
            return None
        found.append(loaded)
    return found


def _loader() -> type[yaml.SafeLoader] | type[yaml.CSafeLoader]:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def flatten(loaded: object, where: str) -> Iterator[Document]:
    """One loaded document → its objects; a List (`kind: List`, `PodList`, a JSON array) gives its items."""
    if isinstance(loaded, list):
        for i, item in enumerate(loaded):
            yield from flatten(mapping(item, f"{where}[{i}]"), f"{where}[{i}]")
        return
    document = mapping(loaded, where)
    kind = document.get("kind")
    items = document.get("items")
    listed = isinstance(kind, str) and kind.endswith("List") and ("items" in document or kind == "List")
    if not listed or not isinstance(kind, str) or not (items is None or isinstance(items, list)):
        yield document
        return
    for i, item in enumerate(items or ()):
        entry = mapping(item, f"{where} items[{i}]")
        # A typed list (`PodList`) leaves kind and apiVersion to the list itself.
        if "kind" not in entry and kind != "List":
            entry = {"kind": kind.removesuffix("List"), "apiVersion": document.get("apiVersion", "v1"), **entry}
        yield from flatten(entry, f"{where} items[{i}]")


def read_path(path: Path) -> list[Document]:
    """All objects in a file, or in every YAML and JSON file below a folder, in sorted order; names that start with a
    dot are skipped, and links to folders are not followed."""
    try:
        if path.is_dir():
            # A JSON document without `kind` is a data file, not a manifest.
            return [d for p in sorted(_manifests(path)) for d in read_path(p) if p.suffix != ".json" or "kind" in d]
        content = path.read_bytes()
    except FileNotFoundError:
        raise PolicyError("no such file or folder", str(path), _nearby(path)) from None
    except OSError as error:
        _unreadable(error)
    return documents(content, str(path))


def _manifests(folder: Path) -> Iterator[Path]:
    """The YAML and JSON files in a folder and its subfolders. A subfolder that cannot be read is an error: the policies
    in it would count as absent."""
    for place, subfolders, names in os.walk(folder, onerror=_unreadable):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for file in (Path(place, name) for name in names if not name.startswith(".")):
            if file.suffix in SUFFIXES and file.name not in NO_MANIFESTS and file.is_file():
                yield file


def _unreadable(error: OSError) -> NoReturn:
    hint = "check the path and its permissions"
    raise PolicyError(error.strerror or "cannot be read", str(error.filename or ""), hint) from None


def _nearby(path: Path) -> str:
    """A hint for a path that does not exist."""
    from difflib import get_close_matches

    try:
        names = sorted(islice((found.name for found in path.parent.iterdir()), 1000))
    except OSError:
        return "check the path: its folder cannot be read or does not exist"
    found = get_close_matches(path.name[:300], names, n=1)
    return f"did you mean {path.parent / found[0]}?" if found else "check the path; it takes a file or folder of YAML"


def identity(document: Document, where: str = "") -> tuple[str, str, str]:
    """(kind, namespace, name) of an object; the namespace is `default` when the object names none."""
    kind = text(document.get("kind"), f"{where or 'document'} kind")
    meta = mapping(document.get("metadata"), f"{where or kind} metadata")
    name = text(meta.get("name"), f"{where or kind} metadata.name")
    namespace = meta.get("namespace")
    return kind, "default" if namespace in (None, "") else text(namespace, f"{kind} {name} metadata.namespace"), name

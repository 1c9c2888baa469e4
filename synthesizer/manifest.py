"""One written object: its text, checked to say what the intent meant.

Invariant: a `Manifest` cannot be made from text that parses to anything but the expected object. So neither a hostile
label nor a user's own template can add or drop a rule unnoticed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from collector.errors import InventoryError, RenderError
from synthesizer import kubernetes_files

# What a template may choose freely: it changes what people see, not what is allowed.
_FREE_METADATA = ("labels", "annotations")
_MEANINGFUL_ANNOTATIONS = ("istio.io/dry-run",)


class Manifest(msgspec.Struct, frozen=True):
    """`path` is relative to the output folder; `document` is the parsed text."""

    kind: str
    namespace: str
    name: str
    path: str
    text: str
    document: dict[str, Any]


def checked(path: str, text: str, expected: dict[str, Any], template: str) -> Manifest:
    """The manifest of a rendered text.

    Raises RenderError when the text is not one YAML document equal to `expected`, metadata labels and annotations
    apart.
    """
    try:
        documents = [document for _, document in kubernetes_files.documents(text.encode(), path, unique_keys=True)]
    except InventoryError as error:
        raise RenderError(
            f"the rendered text is not YAML: {error}", where=template, hint="mend the template"
        ) from error
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise RenderError(
            f"rendered {len(documents)} documents instead of one", where=template, hint="mend the template"
        )
    document: dict[str, Any] = documents[0]
    if difference := _difference(_core(expected), _core(document)):
        raise RenderError(
            f"the rendered text does not say what was decided: {difference}",
            where=f"{template} for {path}",
            hint="mend the template",
        )
    metadata = document.get("metadata") or {}
    return Manifest(document["kind"], metadata.get("namespace", ""), metadata.get("name", ""), path, text, document)


def _core(document: dict[str, Any]) -> dict[str, Any]:
    """A document without the metadata that a template may choose."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        return document
    kept = {k: v for k, v in metadata.items() if k not in _FREE_METADATA or not isinstance(v, dict | None)}
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict):
        meaningful = {k: v for k, v in annotations.items() if k in _MEANINGFUL_ANNOTATIONS}
        kept |= {"annotations": meaningful} if meaningful else {}
    return {**document, "metadata": kept} if kept else document


def _difference(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """The first place at which two documents differ, in words; "" when they are equal."""
    # JSON distinguishes what Python calls equal: 1, 1.0 and true.
    if msgspec.json.encode(expected, order="sorted") == msgspec.json.encode(found, order="sorted"):
        return ""
    return _place(expected, found, "")


def _place(expected: Any, found: Any, where: str) -> str:
    """`_difference` below the path `where`."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted({*expected, *found}, key=str):
            if key not in found:
                return f"{where}.{key} is missing"
            if key not in expected:
                return f"{where}.{key} was added"
            if told := _place(expected[key], found[key], f"{where}.{key}"):
                return told
        return ""
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return f"{where} has {len(found)} entries instead of {len(expected)}"
        pairs = enumerate(zip(expected, found, strict=True))
        return next((told for i, (a, b) in pairs if (told := _place(a, b, f"{where}[{i}]"))), "")
    same = type(expected) is type(found) and expected == found
    return "" if same else f"{where} is {found!r:.80} instead of {expected!r:.80}"

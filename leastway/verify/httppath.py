"""HTTP paths as Envoy sees and Istio matches them: normalisation, string matches and URI templates.

Invariant: `*` has a meaning only as the first, last or only character of a value, and `{*}`/`{**}` only as a whole
segment. Anywhere else they are plain characters (which silently match nothing, so that is not repaired here).
Sources: Istio authorization policy normalisation; Envoy path_normalization and uri_template_lib.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from leastway.verify.errors import PolicyError

Normalization = Literal["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_SLASHES = re.compile(r"/{2,}")
# What a template's operator matches in Envoy 1.40: RFC 3986 pchar, `*` included. Istio's validation allows a template's
# own literals all of them but `*`.
_SEGMENT = r"[a-zA-Z0-9\-._~%!$&'()*+,;:@=]"
_LITERAL = re.compile(_SEGMENT.replace("*", "") + r"+", re.ASCII)
_REFUSED = re.compile(r"[\x00-\x20\x7f]")
_ESCAPED = re.compile(r'["<>^`{|}]|[^\x00-\x7f]+')


@lru_cache(maxsize=1 << 16)
def normalise(path: str, option: Normalization = "BASE") -> str | None:
    """The path that rules are compared with; None when Envoy refuses the request (400).

    `path` is the `:path` as sent, with or without query. BASE: dot segments go, backslashes become slashes, escaped
    unreserved characters are decoded, the characters "<>^{|}, the backtick and whatever is not ASCII are escaped (the
    latter arrive over HTTP/2 only, in HTTP/1.1 Envoy refuses them). MERGE_SLASHES: runs of slashes become one, too;
    DECODE_AND_MERGE_SLASHES: after escaped ones are decoded. Query and fragment never count.
    """
    path = re.split(r"[?#]", path, maxsplit=1)[0]
    if _REFUSED.search(path):
        return None
    if option == "NONE":
        return path
    if "%00" in path:
        return None
    if option == "DECODE_AND_MERGE_SLASHES":
        path = re.sub(r"%2[fF]", "/", re.sub(r"%5[cC]", "\\\\", path))
    path = _ESCAPE.sub(_unescape, path.replace("\\", "/"))
    path = _ESCAPED.sub(lambda found: "".join(f"%{b:02X}" for b in found[0].encode("utf-8", "replace")), path)
    if not path.startswith("/"):
        return path
    path = _without_dots(path)
    return path if option == "BASE" else _SLASHES.sub("/", path)


def _unescape(match: re.Match[str]) -> str:
    letter = chr(int(match[1], 16))
    return letter if letter in _UNRESERVED else match[0]


def _without_dots(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def is_template(value: str) -> bool:
    """True if a `paths` value is a URI template."""
    return "{*}" in value or "{**}" in value


def is_pattern(value: str) -> bool:
    """True if a value may match more than one text."""
    return value.startswith("*") or value.endswith("*") or is_template(value)


@lru_cache(maxsize=1 << 14)
def template(value: str) -> re.Pattern[str]:
    """A URI template as a regular expression for the whole path; raises `PolicyError` for one that Istio rejects."""
    if not value.startswith("/"):
        raise PolicyError(f"path template {value[:100]!r} does not start with /", "paths")
    parts = []
    deep = False
    segments = value[1:].split("/")
    for i, segment in enumerate(segments):
        if deep and segment in ("{*}", "{**}"):
            raise PolicyError(f"path template {value[:100]!r} has an operator after {{**}}", "paths")
        if segment == "{*}":
            parts.append(_SEGMENT + "+")
        elif segment == "{**}":
            deep = True
            parts.append(_SEGMENT.replace("[", "[/", 1) + "*")
        elif _LITERAL.fullmatch(segment) is None and (segment or i < len(segments) - 1):  # Envoy takes one last slash
            raise PolicyError(
                f"path template {value[:100]!r} has a segment that is neither literal nor operator", "paths"
            )
        else:
            parts.append(re.escape(segment))
    return re.compile("/" + "/".join(parts), re.ASCII)


def path_matches(value: str, path: str) -> bool:
    """Does a `paths` value match a normalised path?"""
    if is_template(value):
        return template(value).fullmatch(path) is not None
    return string_matches(value, path)


def string_matches(value: str, found: str) -> bool:
    """Istio's string match, case-sensitive: `*` any text but the empty one, `*x` a suffix, `x*` a prefix, else
    exact."""
    if value == "*":
        return found != ""
    if value.startswith("*"):
        return found.endswith(value[1:])
    if value.endswith("*"):
        return found.startswith(value[:-1])
    return found == value

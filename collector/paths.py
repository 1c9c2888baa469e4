"""HTTP paths → the few exact paths and Istio path templates that let a client do what it did (docs/paths.md).

Everything here is a pure function of the counts: `templates` reads the requests of all clients of one destination port,
decides once, in one trie a method, which positions hold values, and then gives each client what it used.

Invariant: each observed request is covered by a choice of its client, or listed as inexpressible. What a choice admits
beyond that, and other clients were seen doing, is a value of the same position or is listed as swallowed (where a bound
cut that search short, `because` says so). What is returned is bounded for each client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from heapq import nsmallest
from urllib.parse import quote

import msgspec

from collector.routes import Routes, RouteTrie
from collector.segments import ANY, DEPTH, LITERAL_CLASS, Segments, fewest, is_grpc, squeezed, text, typed

REST = "{**}"  # Istio: any number of segments. Recognised by `covers`, never written: the bounds below do without it
LENGTH = 2048  # characters of a path that a policy may name
METHODS = 32  # methods per client
LISTED = 256  # paths and templates per client and method before collapse is forced
VALUES = 64  # values of one template that are listed for a client because of a sibling that it never used
EXACT = 64  # paths per client and method that no template can match
RPCS = 256  # gRPC methods per client before collapse is forced
INEXPRESSIBLE = 64  # reported requests per client
CONSTANT = 5  # visits after which the only value that a client ever used is a fixed part of its path

_UNFIT = re.compile(r"[\x00-\x20\x7f-\x9f\ud800-\udfff]")
_ESCAPED = re.compile(r"[\"<>^`{|}\u0080-\U0010ffff]")  # each character was tried with Envoy 1.40
_TEMPLATABLE = re.compile(f"(?:/{LITERAL_CLASS}+){{0,{DEPTH - 1}}}/{LITERAL_CLASS}*")
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_METHOD = re.compile(r"[A-Za-z0-9!#$%&'+.^_`|~-]*")  # RFC 9110 token without "*", which Istio would take for a wildcard


class Request(msgspec.Struct, frozen=True, order=True):
    """A request as observed, without its query."""

    method: str
    path: str


class Choice(msgspec.Struct, frozen=True, order=True):
    """What a policy may name: an exact path or a template; path "" when it is unknown or there is none (CONNECT)."""

    method: str
    path: str


class Swallowed(msgspec.Struct, frozen=True, order=True):
    """A path that other clients used and `client` did not, although its `template` admits it.

    `path` is exact, or a template itself where what was seen has values of its own (`/users/me/orders/{*}`).
    """

    client: str
    method: str
    template: str
    path: str


class Templates(msgspec.Struct, frozen=True):
    """The choices for one destination port; everything sorted.

    `because` explains each template by (method, template). `inexpressible` pairs a client with a request, as observed,
    that no policy can name (the `INEXPRESSIBLE` first ones of each client).
    """

    per_client: dict[str, tuple[Choice, ...]]
    swallowed: tuple[Swallowed, ...]
    because: dict[tuple[str, str], str]
    inexpressible: tuple[tuple[str, Request], ...]


def normalise(path: str) -> str | None:
    """The path that Istio compares: no query or fragment, `pathNormalization: BASE` applied (istio.io, Normalization).

    Backslashes become slashes, percent-encoded unreserved characters are decoded, dot segments resolved. Quotes, angle
    brackets, braces, `^`, `|`, the backtick and what is not ASCII are percent-encoded. An encoded slash stays in its
    segment, empty segments and a trailing slash stay. None when no policy can match it: no leading slash, spaces and
    control characters (Envoy refuses them), longer than `LENGTH`, or encoded twice so that every proxy decodes it
    further.
    """
    path = path.partition("#")[0].partition("?")[0]
    if not path.startswith("/") or len(path) > LENGTH or "%00" in path or _UNFIT.search(path):
        return None
    path = _ESCAPED.sub(lambda found: quote(found[0]), path)
    if len(path) > LENGTH:
        return None
    if "%" not in path and "\\" not in path and "/." not in path:
        return path
    path = _ENCODED.sub(_decoded, path.replace("\\", "/"))
    if _ENCODED.sub(_decoded, path) != path:
        return None
    kept: list[str] = []
    segments = path[1:].split("/")
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _decoded(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if character in _UNRESERVED else escape[0]


def covers(pattern: str, path: str) -> bool:
    """Whether an Istio `paths` entry matches a normalised path: template, presence, suffix, prefix or exact.

    `{*}` matches one segment of Envoy's literal characters, not empty, and nothing else.
    """
    if ANY in pattern or REST in pattern:
        return _expression(pattern).fullmatch(path) is not None
    if pattern == "*":
        return path != ""
    if pattern.startswith("*"):
        return path.endswith(pattern[1:])
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern


@lru_cache(maxsize=4096)
def _expression(template: str) -> re.Pattern[str]:
    operators = {ANY: LITERAL_CLASS + "+", REST: f"(?:{LITERAL_CLASS}|/)*"}
    return re.compile("/".join(operators.get(s) or re.escape(s) for s in template.split("/")))


def templates(usage: Mapping[str, Mapping[Request, int]]) -> Templates:
    """The choices for the requests to one destination port: `usage[client][request]` counts them."""
    clients = {name: _Client(usage[name]) for name in sorted(usage)}
    methods = sorted({method for client in clients.values() for method in client.routes})
    searches = {
        method: RouteTrie(method, [c.routes[method] for c in clients.values() if method in c.routes], len(methods))
        for method in methods
    }
    per_client: dict[str, tuple[Choice, ...]] = {}
    swallowed: list[Swallowed] = []
    because: dict[tuple[str, str], str] = {}
    for name, client in clients.items():
        choices = [Choice(method, path) for method, paths in client.exact.items() for path in paths]
        for method in sorted(client.routes):
            search, routes = searches[method], client.routes[method]
            used = {form: search.class_of(form) for form, _ in routes.values()}
            chosen, forced = _choose(method, routes, used, search)
            seen = set(used.values())
            for pattern in sorted(chosen):
                template = text(pattern)
                choices.append(Choice(method, template))
                if ANY in pattern:
                    because[method, template] = search.because(pattern, pattern in forced)
                    swallowed += (Swallowed(name, method, template, text(s)) for s in search.siblings(pattern, seen))
        per_client[name] = tuple(sorted(set(choices)))
    return Templates(
        per_client=per_client,
        swallowed=tuple(sorted(set(swallowed))),
        because=dict(sorted(because.items())),
        inexpressible=tuple((name, request) for name, client in clients.items() for request in client.inexpressible),
    )


class _Client:
    """One client's requests, sorted by what a policy can do with them.

    `exact[method]` are paths to be named as they are, or "". `routes[method]` maps segments to their form (`{*}` for
    typed ones) and visits. `inexpressible` is sorted and bounded.
    """

    def __init__(self, requests: Mapping[Request, int]) -> None:
        self.exact: dict[str, list[str]] = {}
        self.routes: dict[str, Routes] = {}
        refused: list[Request] = []
        counts: dict[str, dict[str, int]] = {}
        origins: dict[tuple[str, str], list[Request]] = {}
        for request, visits in requests.items():
            path = _nameable(request)
            if path is None:
                refused.append(request)
                continue
            paths = counts.setdefault(request.method, {})
            paths[path] = paths.get(path, 0) + visits
            origins.setdefault((request.method, path), []).append(request)
        by_use = sorted(counts, key=lambda method: (-sum(counts[method].values()), method))
        for method in by_use[METHODS:]:
            refused += (request for path in counts[method] for request in origins[method, path])
        for method in by_use[:METHODS]:
            for path in self._sort(method, counts[method]):
                refused += origins[method, path]
        self.inexpressible = nsmallest(INEXPRESSIBLE, refused)

    def _sort(self, method: str, paths: Mapping[str, int]) -> list[str]:
        """Fill `exact` and `routes`; return the paths that are over the bound of `exact`, the least used."""
        exact: list[str] = []
        for path, visits in paths.items():
            if _TEMPLATABLE.fullmatch(path):
                segments = tuple(path[1:].split("/"))
                form = segments if is_grpc(method, segments) else typed(segments)
                self.routes.setdefault(method, {})[segments] = (form, visits)
            else:
                exact.append(path)
        exact.sort(key=lambda path: (path != "", -paths[path], path))
        if exact:
            self.exact[method] = exact[:EXACT]
        return exact[EXACT:]


def _nameable(request: Request) -> str | None:
    """The normalised path, "" where there is none, None where a policy cannot name the request."""
    method, path = request.method, request.path
    if not _METHOD.fullmatch(method):
        return None
    if method == "CONNECT" and not path.startswith("/"):
        return ""  # its target is an authority
    if not method or not path:
        return None  # a rule without a method or a path would admit all of them
    normal = normalise(path)
    # Istio reads "*" at an end as a wildcard; Envoy compares it as it is.
    return None if normal is None or "*" in normal else normal


def _choose(
    method: str, routes: Routes, used: Mapping[Segments, Segments], search: RouteTrie
) -> tuple[set[Segments], set[Segments]]:
    """The patterns for one client and method, and those of them that only a bound explains."""
    groups: dict[Segments, dict[Segments, int]] = {}
    for form, visits in routes.values():
        group = groups.setdefault(used[form], {})
        group[form] = group.get(form, 0) + visits
    seen = set(used.values())
    chosen: set[Segments] = set()
    forced: set[Segments] = set()
    for kin in sorted(groups):  # in order, because the search has a bound
        forms = groups[kin]
        constant = len(forms) == 1 and sum(forms.values()) >= CONSTANT
        # Typed segments are values anyway; evidence alone takes no sibling in.
        if kin in forms or (not constant and search.is_clean(kin, seen)):
            chosen.add(kin)
        elif len(forms) > VALUES:
            forced.add(kin)
        else:
            chosen |= set(forms)
    calls = {pattern for pattern in chosen if is_grpc(method, pattern)}
    patterns = fewest((chosen | forced) - calls)
    if len(patterns) > LISTED:
        patterns = fewest({kin for kin in groups if not is_grpc(method, kin)})
    kept = fewest(squeezed(patterns, LISTED) | squeezed(calls, RPCS))
    return kept, kept - chosen

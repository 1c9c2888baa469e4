"""Which requests may be made: methods and paths, ordinary and hostile, as rules of the mesh name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.hostile.logs import envoy
from tests.e2e.hostile.scene import as_lines
from tests.e2e.hostile.test_mesh import SOURCES, _asks, _log_run, _rules, _run, _shop


@SOURCES
def test_methods_and_paths_are_exact(tmp_path: Path, form: str) -> None:
    """One caller, two requests: nothing else."""
    s, web, admin, api = _shop()
    requests: list[Any] = [(web, api, 8080, "GET", "/items")] * 5 + [(web, api, 8080, "POST", "/orders")] * 5
    requests += [(admin, api, 8080, "DELETE", "/items")] * 5
    out = _run(s, tmp_path, requests, form)
    assert out.wrong([], closed=False) == []
    asked = _asks(
        out, "shop/web", "GET /items", "POST /orders", "POST /items", "DELETE /items", "GET /", "GET /items/1"
    )
    assert asked == {
        "GET /items": "allow",
        "POST /orders": "allow",
        "POST /items": "deny",
        "DELETE /items": "deny",
        "GET /": "deny",
        "GET /items/1": "deny",
    }
    assert _asks(out, "shop/admin", "DELETE /items", "GET /items") == {
        "DELETE /items": "allow",
        "GET /items": "deny",
    }


@SOURCES
@pytest.mark.parametrize("path", ["/gr\u00f6\u00dfe", '/"a"', "/{id}/x", "/a|b", "/a^`<>", "/\u20ac/\U0001f600"])
def test_paths_that_envoy_encodes_before_it_compares(tmp_path: Path, form: str, path: str) -> None:
    """However they are logged: the rule has what is compared, the proof holds, and no more is open."""
    s, web, admin, api = _shop()
    out = _run(s, tmp_path, [(web, api, 8080, "GET", path)] * 5 + [(admin, api, 8080, "GET", "/x")], form)
    assert out.wrong([], closed=False) == []
    encoded = quote(path, safe="/")
    asked = _asks(out, "shop/web", f"GET {path}", f"GET {encoded}", f"GET {encoded}1", "GET /x")
    assert list(asked.values()) == ["allow", "allow", "deny", "deny"]
    assert not out.review("inexpressible-path")


def test_paths_that_ciliums_proxy_saw_unencoded(tmp_path: Path) -> None:
    s, web, _, api = _shop()
    s.talk(web, api, 8080)
    for _ in range(3):
        s.http(web, api, 8080, "GET", '/gr\u00f6\u00dfe/"a"')
    out = s.run(tmp_path, inventory=True, mesh="sidecar")
    assert out.wrong([], closed=False) == []
    assert [p for rule in _rules(out) for p in rule["to"][0]["operation"]["paths"]] == ["/gr%C3%B6%C3%9Fe/%22a%22"]


@pytest.mark.parametrize("path", ["/a b", "/a%00b"])
@pytest.mark.parametrize("selectable", [True, False])
def test_paths_that_envoy_refuses_and_a_log_has_all_the_same(tmp_path: Path, path: str, selectable: bool) -> None:
    """Held where rules name requests; where none do, a connection like any other."""
    s, web, _, api = _shop()
    if selectable:
        s.talk(web, api, 8080)
    (tmp_path / "flows.jsonl").write_text(as_lines(s.records))
    (tmp_path / "access.log").write_text(as_lines([envoy(web, api, 8080, "GET", path)] * 3))
    out = s.run_files([tmp_path / "flows.jsonl", tmp_path / "access.log"], tmp_path)
    assert out.result.sound, out.result.proof["denied"]
    assert bool(out.review("inexpressible-path")) is selectable


@SOURCES
def test_ids_become_a_template_and_admin_does_not_slip_in(tmp_path: Path, form: str) -> None:
    """/users/{id} for one caller; that it admits /users/admin, which another caller uses, is reported."""
    s, web, admin, api = _shop()
    requests: list[Any] = [(web, api, 8080, "GET", f"/users/{n * 37 + 1000}") for n in range(40)]
    requests += [(admin, api, 8080, "GET", "/users/admin")] * 5
    out = _run(s, tmp_path, requests, form)
    assert out.wrong([], closed=False) == []
    asked = _asks(out, "shop/web", "GET /users/999999", "GET /users/7/orders", "GET /users/", "GET /users/admin")
    assert asked["GET /users/999999"] == "allow"
    assert asked["GET /users/7/orders"] == asked["GET /users/"] == "deny"
    assert asked["GET /users/admin"] == "allow"
    assert ["/users/admin" in item for item in out.review("template-sibling")] == [True]
    assert _asks(out, "shop/admin", "GET /users/admin", "GET /users/1000")["GET /users/admin"] == "allow"
    assert _asks(out, "shop/admin", "GET /users/1000")["GET /users/1000"] == "deny"


@SOURCES
def test_query_strings_and_fragments_are_no_part_of_a_path(tmp_path: Path, form: str) -> None:
    """A thousand queries are one path."""
    s, web, _, api = _shop()
    requests: list[Any] = [(web, api, 8080, "GET", f"/search?q={n}&x={{{{7*7}}}}") for n in range(50)]
    out = _run(s, tmp_path, requests, form)
    assert out.wrong([], closed=False) == []
    paths = {p for rule in _rules(out) for p in rule["to"][0]["operation"].get("paths", ())}
    assert paths == {"/search"}


HOSTILE_PATHS = [
    '/items/"}]}\n---\nkind: ClusterRoleBinding',
    "/items/{{ config }}",
    "/items/{% raw %}",
    "/items/%00%2e%2e/%2e%2e",
    "/items/" + "a/" * 2000,
    "/items/*",
    "/*",
    "*",
    "/items/{**}",
    "/items/{*}",
    "/a*b/c",
    "/items/' or 1=1 --",
    "/items/../../admin",
    "//items//x",
    "/items/\u2028x",
    "/items/\ud7ff\u202e",
    "/items\\admin",
    "http://evil.example.com/items",
    "items",
    "",
    " /items",
    "/items#x",
    "/items;v=1",
    "/null",
]


@SOURCES
@pytest.mark.parametrize("path", HOSTILE_PATHS, ids=lambda p: ascii(p)[1:24])
def test_a_hostile_path_costs_only_itself(tmp_path: Path, form: str, path: str) -> None:
    """Rejected or exact, it widens nothing; the ordinary path of the same caller stays."""
    s, web, admin, api = _shop()
    requests: list[Any] = [(web, api, 8080, "GET", "/items")] * 4 + [(web, api, 8080, "GET", path)] * 4
    requests += [(admin, api, 8080, "GET", "/admin")] * 4
    out = _run(s, tmp_path, requests, form)
    assert out.wrong([], closed=False) == []
    asked = _asks(out, "shop/web", "GET /items", "GET /anything/else", "POST /items", "GET /axb/c")
    if ".." not in path:  # the proxy itself makes /admin of that one
        asked |= _asks(out, "shop/web", "GET /admin")
    assert asked.pop("GET /items") == "allow"
    assert set(asked.values()) == {"deny"}


@SOURCES
@pytest.mark.parametrize("method", ["G*T", "*", "GET\nPOST", "get", "{{ x }}", "X" * 100, "PROPFIND"], ids=ascii)
def test_hostile_methods(tmp_path: Path, form: str, method: str) -> None:
    """A method with an asterisk would be a wildcard in Istio."""
    s, web, _, api = _shop()
    requests: list[Any] = [(web, api, 8080, "GET", "/items")] * 4 + [(web, api, 8080, method, "/items")] * 4
    out = _run(s, tmp_path, requests, form)
    assert out.wrong([], closed=False) == []
    asked = _asks(out, "shop/web", "GET /items", "DELETE /items", "GOT /items")
    assert asked == {"GET /items": "allow", "DELETE /items": "deny", "GOT /items": "deny"}


def test_options_asterisk_does_not_open_every_path(tmp_path: Path) -> None:
    """`OPTIONS *` and a request whose path was not logged have no path to name: no rule, not a rule for all paths."""
    s, web, _, api = _shop()
    lines = [envoy(web, api, 8080, "GET", "/items")] * 4
    lines += [envoy(web, api, 8080, "OPTIONS", "*"), envoy(web, api, 8080, "PUT", "")]
    out = _log_run(s, tmp_path, [(web, api, 8080)], lines)
    asked = _asks(out, "shop/web", "GET /items", "OPTIONS /admin", "PUT /admin")
    assert asked == {"GET /items": "allow", "OPTIONS /admin": "deny", "PUT /admin": "deny"}


def test_unspecified_method_does_not_stop_the_run(tmp_path: Path) -> None:
    """ALS has no name for PROPFIND or REPORT: the entry comes without a method."""
    s, web, _, api = _shop()
    out = _run(s, tmp_path, [(web, api, 8080, "GET", "/items")] * 4 + [(web, api, 8080, "PROPFIND", "/dav")] * 4, "als")
    assert out.wrong([], closed=False) == []
    assert _asks(out, "shop/web", "GET /items", "DELETE /dav") == {"GET /items": "allow", "DELETE /dav": "deny"}

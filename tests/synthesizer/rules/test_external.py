"""Addresses outside as blocks: exact while few, then prefixes within the budget, never over private ranges."""

from __future__ import annotations

import ipaddress
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from synthesizer.intent import BlockPeer
from synthesizer.rules.external import BUDGET, EXACT, NOT_INTERNET, blocks, everywhere, internet, is_internet


def crowd(seed: int, count: int, span: int) -> list[str]:
    """Addresses of a few services: some dense, some scattered, some private, in both families."""
    random = Random(seed)
    bases = (0x08080000, 0x2E000000, 0x0A000000, 0xC0A80000, 0xA9FE0000)
    v4 = [ipaddress.IPv4Address(random.choice(bases) + random.randrange(span)) for _ in range(count)]
    v6 = [
        ipaddress.IPv6Address((random.choice((0x20010DB8, 0xFD000000)) << 96) + random.randrange(span))
        for _ in range(count // 2)
    ]
    return sorted({str(address) for address in (*v4, *v6)})


ADDRESSES = st.builds(
    crowd, st.integers(0, 1 << 30), st.integers(0, 300), st.sampled_from((64, 256, 1024, 4096, 65_536))
)


def networks(peers: tuple[BlockPeer, ...]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(peer.cidr) for peer in peers]


def test_few_addresses_are_listed_one_by_one() -> None:
    assert [peer.cidr for peer in blocks(["2001:db8::1", "9.9.9.9", "10.0.0.1"])] == [
        "9.9.9.9/32",
        "10.0.0.1/32",
        "2001:db8::1/128",
    ]
    assert len(blocks([f"8.8.8.{n}" for n in range(EXACT)])) == EXACT


def test_many_neighbours_become_one_prefix() -> None:
    assert [peer.cidr for peer in blocks([f"8.8.8.{n}" for n in range(64)])] == ["8.8.8.0/24"]


@given(ADDRESSES)
def test_every_address_is_covered_within_the_budget_and_private_ones_stay_exact(addresses: list[str]) -> None:
    found = networks(blocks(addresses))
    for address in map(ipaddress.ip_address, addresses):
        assert sum(address in network for network in found) == 1
    for network in found:
        inside = sum(ipaddress.ip_address(address) in network for address in addresses)
        assert network.num_addresses <= BUDGET * inside
        if network.num_addresses > 1:
            assert not any(network.overlaps(apart) for apart in NOT_INTERNET[network.version])
    assert len(found) <= len(addresses)


@given(ADDRESSES)
def test_the_order_of_addresses_does_not_matter(addresses: list[str]) -> None:
    assert blocks(reversed(addresses)) == blocks(addresses)


def test_the_internet_leaves_out_every_range_that_is_not_it() -> None:
    (v4,), (v6,) = internet([4]), internet([6])
    assert (v4.cidr, v6.cidr) == ("0.0.0.0/0", "::/0")
    assert v4.excepted == ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
    assert v6.excepted == ("fc00::/7", "fe80::/10")
    assert [is_internet(a) for a in ("8.8.8.8", "172.32.0.1", "172.31.0.1", "fd00::1")] == [True, True, False, False]


def test_the_metadata_service_at_a_public_address_is_never_in_a_block() -> None:
    """Azure's WireServer; its load balancers probe from there, so only what goes out leaves it out."""
    around = [f"168.63.129.{number}" for number in range(64) if number != 16]
    assert not any(ipaddress.ip_address("168.63.129.16") in network for network in networks(blocks(around)))
    assert {"168.63.129.16/32", "192.0.0.192/32", "10.0.0.0/8"} <= set(everywhere(4).excepted)
    assert everywhere(6) == internet([6])[0]


def test_the_range_that_holds_the_nodes_is_let_in_when_they_stand_for_outsiders() -> None:
    pods = [ipaddress.ip_network(text) for text in ("192.168.64.0/18", "192.168.1.0/24", "2001:cafe:42::/56")]
    (v4,), (v6,) = internet([4], ["192.168.1.5", "fd00::5"], pods), internet([6], [], pods)
    assert "192.168.64.0/18" in v4.excepted
    assert "192.168.1.0/24" not in v4.excepted
    assert v6.excepted == ("2001:cafe:42::/56", "fc00::/7", "fe80::/10")
    assert "192.168.0.0/16" not in v4.excepted
    assert "10.0.0.0/8" in v4.excepted

"""Addresses and TLS of the live sources, for clients and servers alike.

Invariant: a wrong address or certificate is reported before anything is sent, and the error names the file or option;
gRPC itself would only report a failed handshake.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from collector.errors import SourceError

Options = Sequence[tuple[str, Any]]

UNSHARED_PORT: Options = (("grpc.so_reuseport", 0),)  # gRPC would let two servers share a port and deal out the calls
_PEM = "give files in PEM form; the key without a password"


@dataclass(frozen=True)
class Address:
    """Where to connect or listen: `host` and `port`, or the `path` of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """As gRPC takes it and as `parse_address` reads it."""
        if self.path:
            return f"unix://{self.path}" if self.path.startswith("/") else f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, listen: bool = False) -> Address:
    """`host:port`, `[::1]:4245`, `unix:///path` or `unix:path`.

    To listen, the host may be empty (all interfaces) and the port 0 (any that is free).
    Raises SourceError.
    """
    hint = "give host:port, [IPv6]:port or unix:///path"
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("//") else path
        if not path or "\0" in path:
            raise SourceError("a unix socket needs a path", where=text, hint=hint)
        return Address(path=path)
    host, colon, digits = text.rpartition(":")
    if host[:1] == "[" and host[-1:] == "]":
        host = host[1:-1]
        try:
            IPv6Address(host.partition("%")[0])
        except ValueError:
            raise SourceError("not an IPv6 address in brackets", where=text, hint=hint) from None
    elif ":" in host:
        raise SourceError("an IPv6 address needs brackets, or its port is unclear", where=text, hint=hint)
    if not colon or not digits.isascii() or not digits.isdigit() or not (not listen) <= int(digits) < 65536:
        raise SourceError("no port, or none that exists", where=text, hint=hint)
    if "/" in host or any(letter.isspace() or not letter.isprintable() for letter in host):
        raise SourceError("not a host name", where=text, hint=hint)
    if not host and not listen:
        raise SourceError("no host to connect to", where=text, hint=hint)
    return Address(host or "::", int(digits))


@dataclass(frozen=True)
class TLS:
    """Files in PEM form, and the name that the server's certificate must carry if it is not the address.

    On a client: `ca` vouches for the server (default: the system's), `certificate` and `key` are for mutual TLS. On a
    server: `certificate` and `key` are its own, and a `ca` makes it demand a certificate of that authority.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""

    def channel_credentials(self) -> Any:
        """What `grpc.secure_channel` needs.

        Raises SourceError when a file cannot be read or is not what it should be.
        """
        import grpc

        if (self.certificate is None) != (self.key is None):
            given, missing = ("key", "certificate") if self.certificate is None else ("certificate", "key")
            raise SourceError(
                f"a client's {given} is no use without its {missing}", where=str(self.key or self.certificate)
            )
        return grpc.ssl_channel_credentials(self._authority(), *reversed(self._pair()))

    def server_credentials(self) -> Any:
        """What `Server.add_secure_port` needs: mutual TLS if there is a `ca`.

        Raises SourceError as `channel_credentials`.
        """
        import grpc

        if self.certificate is None or self.key is None:
            raise SourceError("TLS on a server needs a certificate and its key")
        certificate, key = self._pair()
        return grpc.ssl_server_credentials([(key, certificate)], self._authority(), self.ca is not None)

    def channel_options(self) -> Options:
        """The channel option that makes gRPC check the certificate against `server_name`."""
        return (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()

    def _authority(self) -> bytes | None:
        if self.ca is None:
            return None
        pem = _pem(self.ca)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise SourceError("holds no certificate of an authority", where=str(self.ca), hint=_PEM) from error
        return pem

    def _pair(self) -> tuple[bytes | None, bytes | None]:
        """Certificate chain and key."""
        if self.certificate is None or self.key is None:
            return None, None
        certificate, key = _pem(self.certificate), _pem(self.key)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            where = f"{self.certificate}, {self.key}"
            raise SourceError("certificate and key are not a pair", where=where, hint=_PEM) from error
        return certificate, key


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=str(path), hint="check the path") from error


def open_channel(address: Address, tls: TLS | None, options: Options = ()) -> Any:
    """A `grpc.Channel` to a server; it connects when it is first used.

    Raises SourceError when the TLS files are wrong.
    """
    import grpc

    if tls is None:
        return grpc.insecure_channel(str(address), [*options])
    return grpc.secure_channel(str(address), tls.channel_credentials(), [*options, *tls.channel_options()])


def listen(server: Any, address: Address, tls: TLS | None) -> Address:
    """Let a `grpc.Server` (or one of `grpc.aio`) listen; gives the address with the port that it really has.

    Raises SourceError when the TLS files are wrong or the address is taken or not ours.
    """
    try:
        if tls is None:
            port = server.add_insecure_port(str(address))
        else:
            port = server.add_secure_port(str(address), tls.server_credentials())
    except RuntimeError:
        port = 0
    if not port:
        raise SourceError("cannot listen there", where=str(address), hint="is the port taken, or the host another's?")
    return address if address.path else Address(address.host, port)

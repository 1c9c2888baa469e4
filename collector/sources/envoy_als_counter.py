"""Access log messages from the wire into patterns: what `envoy_als` reads, for a hundred thousand entries a second.

Invariant: the patterns are those of `envoy_als.flows_of`, entry by entry; only repetition is recognised before an entry
is read in full. Two entries are alike if they differ in nothing but time, ids, the query of the path and the ports of
clients; everything else that the reader looks at is part of the key in `held`.
"""

from __future__ import annotations

import copy
from typing import Any

from envoy.service.accesslog.v3 import als_pb2

from collector.flow import Flow
from collector.listening import Tallied
from collector.patterns import Patterns
from collector.room import GROWTH, Overload, Room, weight
from collector.sources.accesslog import Outcome, Unusable, count_unusable, flows_of
from collector.sources.accesslog_record import NOBODY, Party
from collector.sources.envoy_als import http_record, reporter_of, tcp_record, time_of
from collector.sources.flow_batch import hand_over
from collector.wire.access_log_pb2 import StreamAccessLogsMessage

LIMIT = 1 << 15  # kinds of entries held before they are handed over, and kinds remembered
_LAST = 253_402_300_799  # the end of the year 9999, where Python's time ends

Key = tuple[Any, ...]
_parse = StreamAccessLogsMessage.FromString
_parse_all = als_pb2.StreamAccessLogsMessage.FromString


class Stream:
    """One stream of messages: who reports, and the name under which its share of the room is kept."""

    __slots__ = ("name", "number", "reporter")

    def __init__(self, name: str) -> None:
        self.name = name
        self.reporter: Party = NOBODY
        self.number = 0


class Remembered:
    """What kinds of entries turned out to mean, and the reporters' numbers; bounded, and kept from `take` to `take`."""

    __slots__ = ("given", "meanings", "reporters")

    def __init__(self) -> None:
        self.meanings: dict[Key, tuple[Outcome, ...]] = {}
        self.reporters: dict[Party, int] = {}
        self.given = 0  # numbers, each once: what was remembered under one must never be another's

    def identify(self, stream: Stream, identifier: bytes) -> None:
        """Take over what an identifier says of a stream's sender. Raises DecodeError."""
        said = als_pb2.StreamAccessLogsMessage.Identifier.FromString(identifier)
        if said.HasField("node"):
            stream.reporter = reporter_of(said)
            number = self.reporters.get(stream.reporter)
            if number is None:
                if len(self.reporters) >= LIMIT:
                    self.reporters.clear()
                self.given += 1
                number = self.reporters[stream.reporter] = self.given
            stream.number = number

    def remember(self, key: Key, meaning: tuple[Outcome, ...]) -> None:
        """Keep what a kind of entry means."""
        if len(self.meanings) >= LIMIT:
            self.meanings.clear()
        self.meanings[key] = meaning


class AccessLogCounter:
    """Counts messages; `patterns()` is the end of it."""

    __slots__ = ("gathered", "held", "read", "remembered", "room")

    def __init__(self, remembered: Remembered, room: Room) -> None:
        self.remembered = remembered
        self.room = room
        self.gathered = Patterns()
        self.read: tuple[bytes, Any] = (b"", None)  # the last message that was read in full
        # key with the hour → [outcomes, records, first and last time, lowest and highest id, bad outcomes]
        self.held: dict[Key, list[Any]] = {}

    def patterns(self) -> Patterns:
        """Everything counted; the counter must not be used afterwards."""
        self.flush()
        return self.gathered

    def count(self, raw: bytes, stream: Stream) -> Tallied:
        """Count one message.

        Raises DecodeError when it is none, Overload when there is no room for an entry (those before it are counted).
        """
        message = _parse(raw)
        if message.identifier:
            self.remembered.identify(stream, message.identifier)
        which = message.WhichOneof("log_entries")
        if which is None:
            return Tallied()
        entries = getattr(message, which).log_entry
        http = which == "http_logs"
        held, number, newest, bad = self.held, stream.number, 0, 0
        for index, entry in enumerate(entries):
            common = entry.common_properties
            start = common.start_time
            moment, nanos = start.seconds, start.nanos
            if not (0 < moment <= _LAST and 0 <= nanos < 1_000_000_000):
                moment = 0
            if http:
                name, said = _request(entry.request, entry.response)
            else:
                name, said = "", (entry.connection_properties.sent_bytes > 0,)
            key = (moment // 3600, number, said, *_places(common), *_circumstances(common))
            known = held.get(key) or self._learn(key, moment, raw, index, stream)
            if known is None:
                raise Overload(len(entries) - index)
            known[1] += 1
            if moment < known[2]:
                known[2] = moment
            elif moment > known[3]:
                known[3] = moment
            name = name or time_of(moment, nanos)
            if name < known[4] or not known[4]:
                known[4] = name or known[4]
            if name > known[5]:
                known[5] = name
            bad += known[6]
            newest = max(newest, moment)
        return Tallied("http" if http else "tcp", len(entries), bad, newest)

    def flush(self) -> None:
        """Hand what is held over to the patterns."""
        for outcomes, records, first, last, lowest, highest, _ in self.held.values():
            for outcome in outcomes:
                if isinstance(outcome, Flow):
                    flow = copy.copy(outcome)
                    flow.time = time_of(first, 0)
                    hand_over(self.gathered, flow, records, first, last, lowest, lowest, highest)
                else:
                    count_unusable(outcome, self.gathered, records)
        self.held.clear()

    def _learn(self, key: Key, moment: int, raw: bytes, index: int, stream: Stream) -> list[Any] | None:
        """Hold an entry of a kind that is not held yet; None when there is no room for it."""
        meanings = self.remembered.meanings
        outcomes = meanings.get(key[1:])
        if outcomes is None:
            if self.read[0] is not raw:
                self.read = (raw, _parse_all(raw))
            message = self.read[1]
            if message.HasField("http_logs"):
                entry = message.http_logs.log_entry[index]
                outcomes = flows_of(http_record(entry, stream.reporter))
            else:
                entry = message.tcp_logs.log_entry[index]
                outcomes = flows_of(tcp_record(entry, stream.reporter))
            if not self.room.grow(stream.name, GROWTH + entry.ByteSize(), self._weigh):
                return None
            self.remembered.remember(key[1:], tuple(map(_timeless, outcomes)))
        if len(self.held) >= LIMIT:
            self.flush()
        bad = sum(isinstance(outcome, Unusable) and not outcome.readable for outcome in outcomes)
        known = self.held[key] = [outcomes, 0, moment, moment, "", "", bad]
        return known

    def _weigh(self) -> int:
        self.flush()
        return weight(self.gathered)


def _timeless(outcome: Outcome) -> Outcome:
    """A flow without what differs between entries of its kind."""
    if isinstance(outcome, Flow):
        outcome.time = outcome.flow_id = outcome.socket = ""
    return outcome


def _request(request: Any, response: Any) -> tuple[str, Key]:
    """A request's id, "" if it has none that can be kept, and what it asked for and got."""
    name = request.request_id
    if len(name) > 128 or not name.isprintable():
        name = ""
    path = _shortened(request.path)
    return name, (path, request.request_method, response.response_code, response.response_code_details)


def _shortened(path: str) -> str:
    """A request's target without its query, if that changes nothing of what the reader would say of it."""
    end = path.find("?")
    return path[:end] if end > 0 and path.isascii() and path.isprintable() else path


def _places(common: Any) -> tuple[bytes, ...]:
    """The addresses of an entry, without the ports that differ from connection to connection."""
    remote = common.downstream_direct_remote_address
    if not remote and not common.HasField("downstream_direct_remote_address"):
        remote = common.downstream_remote_address
    return (
        _portless(remote),
        common.downstream_local_address,
        common.upstream_remote_address,
        _portless(common.upstream_local_address),
    )


def _portless(address: bytes) -> bytes:
    """An address without its port, if it is a plain socket address as Envoy writes them with an ephemeral port.

    The message says: socket_address (length), address (length, text), port_value (three bytes from 16384 on).
    """
    end = len(address) - 4
    plain = end > 4 and address[:1] + address[2:3] == b"\n\x12" and (address[1], address[3]) == (end + 2, end - 4)
    if plain and address[end] == 0x18 and address[-3] > 0x7F and address[-2] > 0x7F and 0 < address[-1] < 4:
        return address[4:end]
    return address


def _circumstances(common: Any) -> tuple[Any, ...]:
    """What else the reader looks at."""
    name, peer = "", b""
    if common.HasField("tls_properties"):
        tls = common.tls_properties
        name, peer = tls.tls_sni_hostname, tls.peer_certificate_properties
    return (
        common.upstream_cluster,
        name,
        peer,
        common.response_flags,
        common.connection_termination_details,
        common.intermediate_log_entry,
        common.access_log_type,
        *common.filter_state_objects,
    )

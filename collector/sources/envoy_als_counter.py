"""Access log messages from the wire into patterns: what `envoy_als` reads, for a hundred thousand entries a second.

Invariant: the patterns are those of `envoy_als.flows_of`, entry by entry; only repetition is recognised before an entry
is read in full. Two entries are alike if they differ in nothing but time, ids, the query of the path and the ports of
clients; everything else that the reader looks at is part of the key in `kinds`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import islice
from typing import Any

from envoy.service.accesslog.v3 import als_pb2

from collector.flow import Flow
from collector.listening import Tallied
from collector.patterns import Patterns
from collector.room import GROWTH, Overload, Room, weight
from collector.sources.accesslog import ID_LIMIT, Outcome, Unusable, count_unusable, flows_of
from collector.sources.accesslog_record import NOBODY, Peer
from collector.sources.envoy_als import PEER_KEYS, http_record, reporter_of, tcp_record, time_of
from collector.sources.flow_batch import hand_over
from collector.wire.access_log_pb2 import StreamAccessLogsMessage

KINDS = 1 << 17  # kinds of entries known at once: a thousand proxies with a hundred each; about 1 KB a kind
KEPT = 1 << 26  # bytes of the entries that they are known by
FORGOTTEN = 1 << 12  # kinds forgotten at once when there are more, the oldest first
REPORTERS = 1 << 13  # proxies whose number is known at once; a proxy that is forgotten gets a new one
SAID = 1 << 15  # bytes of an identifier that are kept for a recording; Istio's need a thousand
_LAST = 253_402_300_799  # the end of the year 9999, where Python's time ends

Key = tuple[Any, ...]
Held = tuple[tuple[Outcome, ...], int, int, int, str, str]  # see `Kind`

_parse = StreamAccessLogsMessage.FromString
_parse_all = als_pb2.StreamAccessLogsMessage.FromString


class Stream:
    """One stream of messages: who reports, and the name under which its share of the room is kept.

    `said` is a message with nothing but its identifier, and of that only what is read of it.
    """

    __slots__ = ("name", "number", "reporter", "said")

    def __init__(self, name: str) -> None:
        self.name = name
        self.reporter: Peer = NOBODY
        self.number = 0
        self.said = b""


class Kind:
    """Entries that are alike: what they mean, and those of one hour that the patterns do not have yet.

    `first` and `last` in unix seconds, `lowest` and `highest` of their ids, `bad` records in each that are damaged,
    `size` in bytes of one entry.
    """

    __slots__ = ("bad", "first", "highest", "hour", "last", "lowest", "meaning", "records", "size")

    def __init__(self, meaning: tuple[Outcome, ...], size: int) -> None:
        self.meaning = meaning
        self.size = size
        self.bad = sum(isinstance(outcome, Unusable) and not outcome.readable for outcome in meaning)
        self.hour = self.records = self.first = self.last = 0
        self.lowest = self.highest = ""

    def release(self) -> Held:
        """What is held, which is none afterwards."""
        held = (self.meaning, self.records, self.first, self.last, self.lowest, self.highest)
        self.records = 0
        return held


class AccessLogCounter:
    """Counts messages into `gathered`; `exchange` and `count_held` make patterns of it."""

    def __init__(self, limit: int) -> None:
        """`limit` as of `Room`."""
        self.limit = limit
        self.room = Room(limit)
        self.gathered = Patterns()
        self.kinds: dict[Key, Kind] = {}
        self.size = 0  # of the kinds, in bytes
        self.parts: dict[Any, Any] = {}  # of keys, each once
        self.reporters: dict[Peer, int] = {}
        self.given = 0  # numbers of reporters, each once: what is known under one must never be another's
        self.read: tuple[bytes, Any] = (b"", None)  # the last message that was read in full

    def exchange(self) -> tuple[Patterns, list[Held]]:
        """Begin anew; what was counted since the last time goes to `count_held`, which may take its time."""
        held = [kind.release() for kind in self.kinds.values() if kind.records]
        gathered, self.gathered, self.room = self.gathered, Patterns(), Room(self.limit)
        return gathered, held

    def count(self, raw: bytes, stream: Stream) -> Tallied:
        """Count one message.

        Raises DecodeError when it is none, Overload when there is no room for an entry (those before it are counted).
        """
        message = _parse(raw)
        if message.identifier:
            self._identify(stream, message.identifier)
        which = message.WhichOneof("log_entries")
        if which is None:
            return Tallied()
        entries = getattr(message, which).log_entry
        http = which == "http_logs"
        kinds, number, newest, bad = self.kinds, stream.number, 0, 0
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
            key = _key(number, said, common)
            kind = kinds.get(key) or self._learn(key, raw, index, stream)
            if kind is None:
                raise Overload(len(entries) - index)
            name = name or time_of(moment, nanos)
            if kind.records and kind.hour == moment // 3600:
                kind.records += 1
                if moment < kind.first:
                    kind.first = moment
                elif moment > kind.last:
                    kind.last = moment
                if name < kind.lowest:
                    kind.lowest = name or kind.lowest
                elif name > kind.highest:
                    kind.highest = name
                    kind.lowest = kind.lowest or name
            else:
                if kind.records:
                    count_held(self.gathered, (kind.release(),))
                kind.hour, kind.records, kind.first, kind.last = moment // 3600, 1, moment, moment
                kind.lowest = kind.highest = name
            bad += kind.bad
            if moment > newest:
                newest = moment
        return Tallied("http" if http else "tcp", len(entries), bad, newest)

    def _identify(self, stream: Stream, identifier: bytes) -> None:
        """Take over what an identifier says of a stream's sender. Raises DecodeError."""
        said = als_pb2.StreamAccessLogsMessage.Identifier.FromString(identifier)
        if said.HasField("node"):
            stream.reporter = reporter_of(said)
            number = self.reporters.get(stream.reporter)
            if number is None:
                if len(self.reporters) >= REPORTERS:
                    self.reporters.clear()
                self.given += 1
                number = self.reporters[stream.reporter] = self.given
            stream.number = number
            stream.said = _identifying(said)

    def _learn(self, key: Key, raw: bytes, index: int, stream: Stream) -> Kind | None:
        """Read an entry in full and keep what its kind means; None when there is no room for it."""
        if self.read[0] is not raw:
            self.read = (raw, _parse_all(raw))
        message = self.read[1]
        if message.HasField("http_logs"):
            entry = message.http_logs.log_entry[index]
            outcomes = flows_of(http_record(entry, stream.reporter))
        else:
            entry = message.tcp_logs.log_entry[index]
            outcomes = flows_of(tcp_record(entry, stream.reporter))
        size = entry.ByteSize()
        if not self.room.grow(stream.name, GROWTH + size, self._weigh):
            return None
        self.size += size
        if len(self.kinds) >= KINDS or self.size > KEPT or len(self.parts) >= KINDS:
            self._forget()
        once = self.parts.setdefault
        kind = self.kinds[tuple(map(once, key, key))] = Kind(tuple(map(_timeless, outcomes)), size)
        return kind

    def _forget(self) -> None:
        """Make place for new kinds."""
        self.parts.clear()
        while self.kinds and (len(self.kinds) >= KINDS or self.size > KEPT):
            for key in [*islice(self.kinds, FORGOTTEN)]:
                kind = self.kinds.pop(key)
                self.size -= kind.size
                count_held(self.gathered, (kind.release(),))

    def _weigh(self) -> int:
        count_held(self.gathered, [kind.release() for kind in self.kinds.values() if kind.records])
        return weight(self.gathered)


def count_held(patterns: Patterns, held: Iterable[Held]) -> None:
    """Count what was held into patterns."""
    for meaning, records, first, last, lowest, highest in held:
        for outcome in meaning if records else ():
            if isinstance(outcome, Flow):
                flow = copy.copy(outcome)
                flow.time = time_of(first, 0)
                hand_over(patterns, flow, records, first, last, lowest, lowest, highest)
            else:
                count_unusable(outcome, patterns, records)


def _identifying(said: Any) -> bytes:
    """A message with nothing but an identifier, and of that only what is read."""
    kept = als_pb2.StreamAccessLogsMessage()
    node, fields = kept.identifier.node, said.node.metadata.fields
    node.id = said.node.id[:SAID]
    for name in fields:
        if name.lower() in PEER_KEYS:
            node.metadata.fields[name].CopyFrom(fields[name])
    if kept.ByteSize() > SAID:
        node.ClearField("metadata")
    packed: bytes = kept.SerializeToString()
    return packed


def _timeless(outcome: Outcome) -> Outcome:
    """A flow without what differs between entries of its kind."""
    if isinstance(outcome, Flow):
        outcome.time = outcome.flow_id = outcome.socket = ""
    return outcome


def _request(request: Any, response: Any) -> tuple[str, Key]:
    """A request's id, "" if it has none that can be kept, and what it asked for and got."""
    name = request.request_id
    if len(name) > ID_LIMIT or not name.isprintable():
        name = ""
    path = request.path
    if "?" in path:
        path = _shortened(path)
    return name, (path, request.request_method, response.response_code, response.response_code_details)


def _shortened(path: str) -> str:
    """A request's target without its query, if that changes nothing of what the reader would say of it."""
    end = path.find("?")
    return path[:end] if end > 0 and path.isascii() and path.isprintable() else path


def _portless(address: bytes) -> bytes:
    """An address without its port, if it is a plain socket address as Envoy writes them with an ephemeral port.

    The message says: socket_address (length), address (length, text), port_value (three bytes from 16384 on).
    """
    end = len(address) - 4
    if (
        end > 4
        and address[end] == 0x18
        and address[-3] > 0x7F
        and address[-2] > 0x7F
        and 0 < address[-1] < 4
        and address[3] == end - 4
        and address[2] == 0x12
        and address[1] == end + 2
        and address[0] == 0x0A
    ):
        return address[4:end]
    return address


def _key(number: int, said: Key, common: Any) -> Key:
    """What tells kinds of entries apart: the reporter, what was said, and whatever else the reader looks at.

    Addresses of clients are without the ports that differ from connection to connection.
    """
    remote = common.downstream_direct_remote_address
    if not remote and not common.HasField("downstream_direct_remote_address"):
        remote = common.downstream_remote_address
    tls = common.tls_properties  # empty if there is none, which means the same
    return (
        number,
        said,
        _portless(remote),
        common.downstream_local_address,
        common.upstream_remote_address,
        _portless(common.upstream_local_address),
        common.upstream_cluster,
        tls.tls_sni_hostname,
        tls.peer_certificate_properties,
        common.response_flags,
        common.connection_termination_details,
        common.intermediate_log_entry,
        common.access_log_type,
        tuple(common.filter_state_objects),
    )

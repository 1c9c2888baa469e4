from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StreamAccessLogsMessage(_message.Message):
    __slots__ = ("identifier", "http_logs", "tcp_logs")
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    HTTP_LOGS_FIELD_NUMBER: _ClassVar[int]
    TCP_LOGS_FIELD_NUMBER: _ClassVar[int]
    identifier: bytes
    http_logs: Entries
    tcp_logs: Entries
    def __init__(self, identifier: _Optional[bytes] = ..., http_logs: _Optional[_Union[Entries, _Mapping]] = ..., tcp_logs: _Optional[_Union[Entries, _Mapping]] = ...) -> None: ...

class Entries(_message.Message):
    __slots__ = ("log_entry",)
    LOG_ENTRY_FIELD_NUMBER: _ClassVar[int]
    log_entry: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, log_entry: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("common_properties", "connection_properties", "request", "response")
    COMMON_PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    common_properties: Common
    connection_properties: Connection
    request: Request
    response: Response
    def __init__(self, common_properties: _Optional[_Union[Common, _Mapping]] = ..., connection_properties: _Optional[_Union[Connection, _Mapping]] = ..., request: _Optional[_Union[Request, _Mapping]] = ..., response: _Optional[_Union[Response, _Mapping]] = ...) -> None: ...

class Connection(_message.Message):
    __slots__ = ("sent_bytes",)
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    sent_bytes: int
    def __init__(self, sent_bytes: _Optional[int] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("request_method", "path", "request_id")
    REQUEST_METHOD_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_method: int
    path: str
    request_id: str
    def __init__(self, request_method: _Optional[int] = ..., path: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class Response(_message.Message):
    __slots__ = ("response_code", "response_code_details")
    RESPONSE_CODE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_CODE_DETAILS_FIELD_NUMBER: _ClassVar[int]
    response_code: bytes
    response_code_details: str
    def __init__(self, response_code: _Optional[bytes] = ..., response_code_details: _Optional[str] = ...) -> None: ...

class Common(_message.Message):
    __slots__ = ("downstream_remote_address", "downstream_local_address", "tls_properties", "start_time", "upstream_remote_address", "upstream_local_address", "upstream_cluster", "response_flags", "downstream_direct_remote_address", "filter_state_objects", "connection_termination_details", "intermediate_log_entry", "access_log_type")
    DOWNSTREAM_REMOTE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DOWNSTREAM_LOCAL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TLS_PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_REMOTE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_LOCAL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_CLUSTER_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FLAGS_FIELD_NUMBER: _ClassVar[int]
    DOWNSTREAM_DIRECT_REMOTE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FILTER_STATE_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_TERMINATION_DETAILS_FIELD_NUMBER: _ClassVar[int]
    INTERMEDIATE_LOG_ENTRY_FIELD_NUMBER: _ClassVar[int]
    ACCESS_LOG_TYPE_FIELD_NUMBER: _ClassVar[int]
    downstream_remote_address: bytes
    downstream_local_address: bytes
    tls_properties: TLS
    start_time: Timestamp
    upstream_remote_address: bytes
    upstream_local_address: bytes
    upstream_cluster: str
    response_flags: bytes
    downstream_direct_remote_address: bytes
    filter_state_objects: _containers.RepeatedScalarFieldContainer[bytes]
    connection_termination_details: str
    intermediate_log_entry: bool
    access_log_type: int
    def __init__(self, downstream_remote_address: _Optional[bytes] = ..., downstream_local_address: _Optional[bytes] = ..., tls_properties: _Optional[_Union[TLS, _Mapping]] = ..., start_time: _Optional[_Union[Timestamp, _Mapping]] = ..., upstream_remote_address: _Optional[bytes] = ..., upstream_local_address: _Optional[bytes] = ..., upstream_cluster: _Optional[str] = ..., response_flags: _Optional[bytes] = ..., downstream_direct_remote_address: _Optional[bytes] = ..., filter_state_objects: _Optional[_Iterable[bytes]] = ..., connection_termination_details: _Optional[str] = ..., intermediate_log_entry: bool = ..., access_log_type: _Optional[int] = ...) -> None: ...

class TLS(_message.Message):
    __slots__ = ("tls_sni_hostname", "peer_certificate_properties")
    TLS_SNI_HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    PEER_CERTIFICATE_PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    tls_sni_hostname: str
    peer_certificate_properties: bytes
    def __init__(self, tls_sni_hostname: _Optional[str] = ..., peer_certificate_properties: _Optional[bytes] = ...) -> None: ...

class Timestamp(_message.Message):
    __slots__ = ("seconds", "nanos")
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    NANOS_FIELD_NUMBER: _ClassVar[int]
    seconds: int
    nanos: int
    def __init__(self, seconds: _Optional[int] = ..., nanos: _Optional[int] = ...) -> None: ...

"""Our own protobuf subsets of other projects' messages: the `.proto` files, and what protoc makes of them.

Invariant: field numbers and types are those of the originals, so that the wire is the same; only names are our own.
Written anew with `python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. collector/wire/*.proto`, by a grpcio-tools
no newer than the oldest protobuf runtime in pyproject.toml.
"""

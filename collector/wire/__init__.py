"""Our own subsets of other projects' messages: .proto files, and the stubs that `make stubs` makes of them.

Invariant: field numbers and types are those of the originals, so that the wire is the same; only names are our own.
"""

"""Field masks: of each flow, only what the client asked for.

Invariant: a path that names no field of a flow is refused, as Hubble does; and as there, a response's own node name and
time are those of the masked flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from collector.wire.flow_pb2 import Flow

Tree = dict[str, "Tree"]  # field → its masked fields; {} keeps all of it


def compiled(paths: Iterable[str]) -> Callable[[Any], None]:
    """What clears all other fields of the flow in a response.

    Raises ValueError for a path that names nothing.
    """
    tree: Tree = {}
    whole: set[tuple[str, ...]] = set()
    for path in paths:
        names = tuple(path.split("."))
        _check(names)
        if any(names[:length] in whole for length in range(1, len(names) + 1)):
            continue
        whole.add(names)
        branch = tree
        for name in names[:-1]:
            branch = branch.setdefault(name, {})
        branch[names[-1]] = {}
    cut = _cutter(Flow.DESCRIPTOR, tree)
    dropped = [name for name in ("node_name", "time") if name not in tree]

    def mask(response: Any) -> None:
        cut(response.flow)
        for name in dropped:
            response.ClearField(name)

    return mask


def _check(names: tuple[str, ...]) -> None:
    descriptor: Any = Flow.DESCRIPTOR
    for name in names:
        field = descriptor.fields_by_name.get(name) if descriptor is not None else None
        if field is None:
            raise ValueError(f"{'.'.join(names)[:200]!r} is no field of a flow")
        descriptor = field.message_type if field.has_presence else None  # what is repeated has none


def _cutter(descriptor: Any, tree: Tree) -> Callable[[Any], None]:
    drop = [field.name for field in descriptor.fields if field.name not in tree]
    inner = [
        (name, _cutter(descriptor.fields_by_name[name].message_type, below)) for name, below in tree.items() if below
    ]

    def cut(message: Any) -> None:
        for name in drop:
            message.ClearField(name)
        for name, below in inner:
            if message.HasField(name):
                below(getattr(message, name))

    return cut

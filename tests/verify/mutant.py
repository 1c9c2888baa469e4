"""A pytest plugin that breaks one module of the judge while it is imported: `LEASTWAY_MUTANT` is JSON of module, old
text and new text. Nothing is written, neither source nor bytecode."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType


def mutated(source: str, old: str, new: str) -> str:
    """`source` with its one occurrence of `old` replaced."""
    if source.count(old) != 1:
        raise ValueError(f"{source.count(old)} places, not one, read {old!r}")
    return source.replace(old, new)


class Loader(SourceFileLoader):
    """Compiles the module's changed text."""

    def __init__(self, name: str, path: str, old: str, new: str) -> None:
        super().__init__(name, path)
        self.change = old, new

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 # the loader is asked for its own module only
        """The code of the changed text."""
        changed = mutated(Path(self.path).read_text(encoding="utf-8"), *self.change)
        return compile(changed, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds the one module that is to be changed."""

    def __init__(self, module: str, old: str, new: str) -> None:
        self.module, self.old, self.new = module, old, new

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The usual spec with our loader; None for all other modules."""
        if name != self.module:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = Loader(name, spec.origin, self.old, self.new)
        return spec


if "LEASTWAY_MUTANT" in os.environ:
    sys.meta_path.insert(0, Finder(*json.loads(os.environ["LEASTWAY_MUTANT"])))

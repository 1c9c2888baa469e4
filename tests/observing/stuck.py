"""`leastway` with a store behind `stuck://` that answers nothing any more once there is a file `stuck` beside it.

It makes a file `waiting` there when somebody waits for it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from leastway.cli import main


class Stuck(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    protocol = "stuck"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("stuck://")

    def put_file(self, source: str, target: str, *rest: Any, **more: Any) -> None:
        self.answer(Path(target).parents[2])
        super().put_file(source, target, *rest, **more)

    def exists(self, path: str, **more: Any) -> bool:
        target = Path(self._strip_protocol(path))
        self.answer(target.parents[2 if target.suffix else 1])
        return bool(super().exists(path, **more))

    def answer(self, beside: Path) -> None:
        """Return, once we answer."""
        while (beside / "stuck").exists():
            (beside / "waiting").touch()
            time.sleep(1)


if __name__ == "__main__":
    fsspec.register_implementation("stuck", Stuck)
    main()

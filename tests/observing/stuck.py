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
        beside = Path(target).parents[2]
        while (beside / "stuck").exists():
            (beside / "waiting").touch()
            time.sleep(1)
        super().put_file(source, target, *rest, **more)


if __name__ == "__main__":
    fsspec.register_implementation("stuck", Stuck)
    main()

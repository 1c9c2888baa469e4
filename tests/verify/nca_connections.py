"""Runs inside the environment of network-config-analyzer: folders of manifests in, JSON of their connection lists out.

Usage: python nca_connections.py ROOT PART PARTS; every folder below ROOT is one cluster, and this process takes each
PARTS-th of them. It imports nothing of this project.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
from pathlib import Path


def main(root: str, part: int, parts: int) -> None:
    """Print {folder: connection list or null when the analyzer gives up}."""
    run = importlib.import_module("nca.nca_cli").nca_main
    found: dict[str, str | None] = {}
    for folder in sorted(Path(root).iterdir())[part::parts]:
        out = io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.suppress(SystemExit),
        ):
            run(["--connectivity", "-r", str(folder), "--output_format", "txt_no_fw_rules"])
        found[folder.name] = out.getvalue() if "=>" in out.getvalue() else None
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

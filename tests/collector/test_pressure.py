"""How much memory there is and may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector import pressure


def test_what_is_allocated_is_resident() -> None:
    before = pressure.resident()
    block = bytearray(b"x") * (64 << 20)
    assert pressure.resident() - before > 48 << 20
    del block
    pressure.give_back()
    assert pressure.resident() - before < 16 << 20


def test_a_containers_limit_counts_if_it_has_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(pressure, "_LIMITS", (tmp_path / "missing", limit))
    machine = pressure.allowed()
    assert machine > 64 << 20
    limit.write_text("max\n")
    assert pressure.allowed() == machine
    limit.write_text(f"{32 << 20}\n")
    assert pressure.allowed() == 32 << 20

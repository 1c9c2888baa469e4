"""The folder writer: only changed files, only our own, nothing half-written, nothing outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leastway.export.folder import FolderError, write

POLICY = "kind: NetworkPolicy\nmetadata:\n  labels:\n    app.kubernetes.io/managed-by: leastway\n"
KUSTOMIZATION = 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - "{}"\n'


def files(*names: str, text: str = POLICY) -> dict[str, str]:
    """What a run gives: policies, and the report that lists them."""
    found = {f"shop/networkpolicy-{name}.yaml": text for name in names}
    found["leastway.json"] = json.dumps({"schema": 1, "files": sorted(found)})
    found["REVIEW.md"] = "# Review\n"
    return found


def content(folder: Path) -> dict[str, str]:
    """Everything in a folder."""
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_everything_is_written_into_a_new_folder(tmp_path: Path) -> None:
    changes = write(files("web"), tmp_path / "a/b")
    assert content(tmp_path / "a/b") == files("web")
    assert changes.written == tuple(sorted(files("web")))


def test_only_changed_files_are_touched(tmp_path: Path) -> None:
    write(files("web", "api"), tmp_path)
    untouched = (tmp_path / "shop/networkpolicy-web.yaml").stat().st_ino
    new = files("web", "api") | {"shop/networkpolicy-api.yaml": POLICY + "spec: {}\n"}
    changes = write(new, tmp_path)
    assert changes.written == ("shop/networkpolicy-api.yaml",)
    assert (tmp_path / "shop/networkpolicy-web.yaml").stat().st_ino == untouched
    assert content(tmp_path) == new


def test_what_is_no_longer_produced_is_removed_with_its_empty_folder(tmp_path: Path) -> None:
    write(files("web"), tmp_path)
    changes = write(files(), tmp_path)
    assert changes.removed == ("shop/networkpolicy-web.yaml",)
    assert not (tmp_path / "shop").exists()


def test_a_file_of_the_user_stays(tmp_path: Path) -> None:
    write(files("web"), tmp_path)
    (tmp_path / "shop/mine.yaml").write_text(POLICY)
    changes = write(files(), tmp_path)
    assert (tmp_path / "shop/mine.yaml").exists()
    assert changes.removed == ("shop/networkpolicy-web.yaml",)


def test_a_file_of_ours_that_the_user_took_over_stays_and_is_told(tmp_path: Path) -> None:
    write(files("web"), tmp_path)
    (tmp_path / "shop/networkpolicy-web.yaml").write_text("kind: NetworkPolicy\n")
    changes = write(files(), tmp_path)
    assert changes.removed == ()
    assert changes.kept == ("shop/networkpolicy-web.yaml",)
    assert (tmp_path / "shop/networkpolicy-web.yaml").exists()


@pytest.mark.parametrize(("resource", "removed"), [("networkpolicy-web.yaml", True), ("mine.yaml", False)])
def test_a_kustomization_is_removed_only_if_it_names_nothing_but_ours(
    tmp_path: Path, resource: str, removed: bool
) -> None:
    run = files("web") | {"shop/kustomization.yaml": KUSTOMIZATION.format("networkpolicy-web.yaml")}
    run["leastway.json"] = json.dumps(
        {"schema": 1, "files": ["shop/kustomization.yaml", "shop/networkpolicy-web.yaml"]}
    )
    write(run, tmp_path)
    (tmp_path / "shop/kustomization.yaml").write_text(KUSTOMIZATION.format(resource))
    write(files(), tmp_path)
    assert (tmp_path / "shop/kustomization.yaml").exists() != removed


@pytest.mark.parametrize("path", ["shop/kustomization.yaml", "REVIEW.md", "shop/networkpolicy-web.yaml"])
def test_a_foreign_file_in_the_way_is_never_overwritten(tmp_path: Path, path: str) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / path).write_text("mine\n")
    run = files("web") | {"shop/kustomization.yaml": KUSTOMIZATION.format("networkpolicy-web.yaml")}
    with pytest.raises(FolderError, match="not written by leastway"):
        write(run, tmp_path)
    assert content(tmp_path) == {path: "mine\n"}


@pytest.mark.parametrize(
    "text", ["{}", "not json", "[]", '{"schema": "x", "files": []}', '{"schema": 1, "files": 3}', "[" * 9999]
)
def test_a_foreign_report_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "leastway.json").write_text(text)
    with pytest.raises(FolderError, match="not a report of ours"):
        write(files("web"), tmp_path)
    assert content(tmp_path) == {"leastway.json": text}


def test_an_empty_report_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "leastway.json").write_text("")
    write(files("web"), tmp_path)
    assert content(tmp_path) == files("web")


@pytest.mark.parametrize(
    "path",
    ["../x.yaml", "/etc/x.yaml", "a/../../x.yaml", "a//x.yaml", "./x.yaml", "", ".", "a\\b", "a\nb", "a/\x00", "a/"],
)
def test_no_path_leaves_the_folder(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "out"
    with pytest.raises(FolderError):
        write({path: "x"}, folder)
    assert not (tmp_path / "x.yaml").exists()


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "shop").symlink_to(outside)
    with pytest.raises(FolderError, match="link"):
        write(files("web"), folder)
    assert content(outside) == {}


def test_a_hostile_report_cannot_have_files_outside_removed(tmp_path: Path) -> None:
    victim = tmp_path / "victim.yaml"
    victim.write_text(POLICY)
    folder = tmp_path / "out"
    folder.mkdir()
    listed = ["../victim.yaml", str(victim), "\x00"]
    (folder / "leastway.json").write_text(json.dumps({"schema": 1, "files": listed}))
    changes = write(files("web"), folder)
    assert victim.exists()
    assert changes.removed == ()


def test_a_run_that_fails_midway_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(files("web", "api"), tmp_path)
    before = content(tmp_path)
    real = Path.open
    opened = 0

    def full(self: Path, *args: object, **kwargs: object) -> object:
        nonlocal opened
        opened += self.name.endswith(".tmp")
        if opened == 2:
            raise OSError(28, "No space left on device", str(self))
        return real(self, *args, **kwargs)  # type: ignore[call-overload]  # handed through as they are

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(FolderError, match="No space left"):
        write(files("web", "api", "db", text=POLICY + "spec: {}\n"), tmp_path)
    monkeypatch.undo()
    assert content(tmp_path) == before


def test_an_interrupt_between_two_renames_leaves_each_file_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = files("web", "api"), files("web", "api", text=POLICY + "spec: {}\n")
    write(old, tmp_path)
    real = Path.replace
    renamed = 0

    def interrupted(self: Path, target: Path) -> Path:
        nonlocal renamed
        renamed += 1
        if renamed == 2:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(new, tmp_path)
    found = content(tmp_path)
    assert set(found) == set(old)
    assert all(found[path] in (old[path], new[path]) for path in found)
    assert found != old


def test_a_folder_in_the_place_of_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "REVIEW.md").mkdir()
    with pytest.raises(FolderError, match="a folder is in the place"):
        write(files(), tmp_path)


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(FolderError, match="not a folder"):
        write(files(), tmp_path / "out")

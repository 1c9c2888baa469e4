"""The project's own promises: reasons for dependencies, the layout, the size of modules."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from synthesizer.package_data import templates_root

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("collector", "synthesizer", "leastway")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
MODULES = sorted(
    path
    for folder in (*PACKAGES, "tests")
    for path in (ROOT / folder).rglob("*.py")
    if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
)
REQUIREMENT = re.compile(r'^    "(?P<name>[A-Za-z0-9-]+)(?P<bound>[^"]*)",(?P<reason>.*)$', re.MULTILINE)


def _requirements() -> list[str]:
    project = tomllib.loads(PYPROJECT)["project"]
    extras = [line for group in project["optional-dependencies"].values() for line in group]
    return [*project["dependencies"], *extras]


def test_every_dependency_has_a_lower_bound_and_a_reason() -> None:
    written = {f"{match['name']}{match['bound']}": match["reason"].strip() for match in REQUIREMENT.finditer(PYPROJECT)}
    for requirement in _requirements():
        assert ">=" in requirement, requirement
        assert re.fullmatch(r"# .{10,}", written.get(requirement, "")), f"{requirement}: say why, behind it"


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_installed_beside_us_takes_our_names(package: str) -> None:
    assert set(packages_distributions().get(package, [])) <= {"leastway"}


def test_everything_at_the_top_is_meant_to_be_there() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("this is no git checkout, so what belongs to it cannot be told")
    assert {path.split("/")[0] for path in listed.stdout.splitlines()} <= {
        ".ci",
        ".dockerignore",
        ".gitignore",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "collector",
        "deploy",
        "docs",
        "leastway",
        "pyproject.toml",
        "sample_flows",
        "synthesizer",
        "templates",
        "tests",
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_no_module_is_longer_than_500_lines() -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: size for path, size in sizes.items() if size > 500} == {}


def test_every_module_with_code_says_what_it_is_for() -> None:
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").lstrip() for path in MODULES}
    assert [path for path, text in texts.items() if text and not text.startswith('"""')] == []


def test_the_templates_are_found() -> None:
    assert any(folder.name == "networking.k8s.io" for folder in templates_root().iterdir())


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#:\s]+)[^):]*\)", document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("module", ["collector.patterns", "collector.store", "collector.frame"])
def test_heavy_packages_are_imported_only_where_they_are_used(module: str) -> None:
    heavy = {"pandas", "pyarrow", "kubernetes", "grpc"}
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""

"""What `deploy/` renders to, and what has to hold of it however it is rendered."""

from __future__ import annotations

import subprocess
from functools import cache
from typing import Any

import click
import pytest
import yaml

from leastway.cli.observe import command
from tests.conftest import ROOT
from tests.deploy.tools import path_of

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "leastway"
Document = dict[str, Any]


def parsed(text: str) -> list[Document]:
    return [document for document in yaml.safe_load_all(text) if document]


@cache
def source() -> dict[str, Document]:
    """The kustomize base's own files, by kind: nothing in it is generated, so they can be read without kubectl."""
    files = yaml.safe_load((DEPLOY / "kustomize/kustomization.yaml").read_text())["resources"]
    found = [d for name in files for d in parsed((DEPLOY / "kustomize" / name).read_text())]
    for document in found:
        if document["kind"] != "Namespace":
            document["metadata"]["namespace"] = "leastway"
    return {document["kind"]: document for document in found}


def rendered_by(*command_line: str) -> dict[str, Document]:
    tool, *arguments = command_line
    result = subprocess.run(
        [path_of(tool), *arguments], check=True, capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    found = parsed(result.stdout)
    assert len({document["kind"] for document in found}) == len(found)
    return {document["kind"]: document for document in found}


def helm(*more: str) -> dict[str, Document]:
    return rendered_by("helm", "template", "leastway", str(CHART), "--namespace", "leastway", *more)


def container(deployment: Document) -> Document:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(only)


def check_arguments(deployment: Document) -> None:
    """The command line takes them: click itself parses them."""
    name, *arguments = container(deployment)["args"]
    assert name == "observe"
    command.make_context("observe", list(arguments), resilient_parsing=False)
    with pytest.raises(click.NoSuchOption):
        command.make_context("observe", [*arguments, "--wrong"])


def check_restricted(deployment: Document) -> None:
    """Pod Security Standards, profile restricted, and a root file system that cannot be written."""
    spec = deployment["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec)
    assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} <= {
        "emptyDir",
        "persistentVolumeClaim",
        "secret",
    }
    own = container(deployment)["securityContext"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["privileged"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert not any("hostPort" in port for port in container(deployment)["ports"])


def check_no_rights(found: dict[str, Document]) -> None:
    """Nothing of what is rendered may ask the Kubernetes API for anything."""
    assert not {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} & set(found)
    assert found["ServiceAccount"]["automountServiceAccountToken"] is False
    assert found["Deployment"]["spec"]["template"]["spec"]["automountServiceAccountToken"] is False

"""deploy/: its files name each other's ports, options and images as they are; see test_rendered for the rest."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from collector.sources.accesslog_record import IDENTITY_KEYS
from tests.conftest import ROOT
from tests.deploy.rendering import (
    CHART,
    DEPLOY,
    check_arguments,
    check_no_rights,
    check_restricted,
    container,
    parsed,
    source,
)


def test_the_collector_is_started_with_options_that_exist() -> None:
    check_arguments(source()["Deployment"])


def test_the_pod_is_restricted() -> None:
    check_restricted(source()["Deployment"])
    enforced = source()["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"


def test_the_collector_may_ask_the_kubernetes_api_nothing() -> None:
    check_no_rights(source())
    for path in DEPLOY.rglob("*.yaml"):
        assert "rbac.authorization.k8s.io" not in path.read_text(), path


def test_one_collector_at_a_time_writes_what_it_hears() -> None:
    spec = source()["Deployment"]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_service_probes_and_annotations_name_ports_that_the_container_has() -> None:
    ports = {port["name"]: port["containerPort"] for port in container(source()["Deployment"])["ports"]}
    assert {port["targetPort"] for port in source()["Service"]["spec"]["ports"]} == set(ports)
    assert all(ports[port["targetPort"]] == port["port"] for port in source()["Service"]["spec"]["ports"])
    for probe in ("livenessProbe", "readinessProbe"):
        assert container(source()["Deployment"])[probe]["httpGet"]["port"] == "metrics"
    listens = {a.rpartition(":")[2] for a in container(source()["Deployment"])["args"] if "=:" in a}
    assert listens == {str(number) for number in ports.values()}


def test_istio_sends_its_logs_to_the_service_there_is() -> None:
    providers = yaml.safe_load((DEPLOY / "istio/mesh-config.yaml").read_text())["meshConfig"]["extensionProviders"]
    ports = {port["port"]: port["name"] for port in source()["Service"]["spec"]["ports"]}
    kinds = {}
    for provider in providers:
        (kind,) = set(provider) - {"name"}
        kinds[provider["name"]] = kind
        assert provider[kind]["service"] == "leastway.leastway.svc.cluster.local"
        assert ports[provider[kind]["port"]] == ("grpc-otlp" if kind == "envoyOtelAls" else "grpc-als")
    assert sorted(kinds.values()) == ["envoyHttpAls", "envoyOtelAls", "envoyTcpAls"]
    named = []
    for path in (DEPLOY / "istio").glob("telemetry-*.yaml"):
        (telemetry,) = parsed(path.read_text())
        assert (telemetry["apiVersion"], telemetry["kind"]) == ("telemetry.istio.io/v1", "Telemetry")
        named += [entry["name"] for log in telemetry["spec"]["accessLogging"] for entry in log["providers"]]
    assert sorted(named) == sorted(kinds)


def test_what_otlp_adds_to_the_log_is_what_our_reader_knows() -> None:
    providers = yaml.safe_load((DEPLOY / "istio/mesh-config.yaml").read_text())["meshConfig"]["extensionProviders"]
    (labels,) = [p["envoyOtelAls"]["logFormat"]["labels"] for p in providers if "envoyOtelAls" in p]
    assert set(labels) <= set(IDENTITY_KEYS)


def test_every_yaml_file_parses() -> None:
    files = [path for path in DEPLOY.rglob("*.yaml") if "templates" not in path.parts]
    assert len(files) > 8
    for path in files:
        assert parsed(path.read_text()), path


def test_the_image_is_built_from_what_is_there_and_runs_as_nobody() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert len(bases) == 2
    assert all(":" in base and not base.endswith(":latest") for base in bases)
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert (ROOT / name).exists(), name
                assert f"!{name}" in (ROOT / ".dockerignore").read_text().splitlines()
    user = next(line.split()[1] for line in lines if line.startswith("USER "))
    security = source()["Deployment"]["spec"]["template"]["spec"]["securityContext"]
    assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
    exposed = {int(port) for line in lines if line.startswith("EXPOSE ") for port in line.split()[1:]}
    assert exposed == {port["containerPort"] for port in container(source()["Deployment"])["ports"]}


def test_one_version_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    kustomization = yaml.safe_load((DEPLOY / "kustomize/kustomization.yaml").read_text())
    assert {chart["version"], chart["appVersion"], kustomization["images"][0]["newTag"]} == {version}
    assert container(source()["Deployment"])["image"] == f"leastway:{version}"


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is published for Linux only, as far as pip knows")
    result = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout) == (0, "")

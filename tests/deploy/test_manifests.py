"""deploy/: what is rendered lets the collector do its job and nothing else, and both ways to render it agree."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from functools import cache
from typing import Any

import click
import pytest
import yaml

from collector.sources.accesslog_record import IDENTITY_KEYS
from leastway.cli.observe import command
from leastway.verify.judge import Judge, Question
from leastway.verify.world import World
from tests.conftest import ROOT
from tests.verify.kit import namespace, pod

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
    if shutil.which(command_line[0]) is None:
        pytest.skip(f"{command_line[0]} is not installed here")
    result = subprocess.run(command_line, check=True, capture_output=True, text=True, timeout=60, cwd=ROOT)
    return {document["kind"]: document for document in parsed(result.stdout)}


def helm(*more: str) -> dict[str, Document]:
    return rendered_by("helm", "template", "leastway", str(CHART), "--namespace", "leastway", *more)


def test_kustomize_renders_what_its_files_say() -> None:
    assert rendered_by("kubectl", "kustomize", "deploy/kustomize") == source()


def test_helm_and_kustomize_agree_on_the_defaults() -> None:
    expected = dict(source())
    del expected["Namespace"]  # helm is told which, and makes it with --create-namespace
    assert helm() == expected


def test_helm_renders_every_option() -> None:
    found = helm(
        "--set=hubble.tls.secretName=hubble,hubble.tls.mutual=true,hubble.tls.serverName=relay.example",
        "--set=serverTls.secretName=server,serverTls.mutual=true,store.url=s3://bucket/patterns",
        "--set=envFrom[0].secretRef.name=credentials,extraArgs[0]=--since=1h,clusterName=east",
        "--set=imagePullSecrets[0].name=pull,nodeSelector.pool=system,serviceAccount.annotations.role=writer",
    )
    assert "PersistentVolumeClaim" not in found
    check_arguments(found["Deployment"])
    check_restricted(found["Deployment"])
    mounts = {mount["name"] for mount in container(found["Deployment"])["volumeMounts"]}
    assert mounts == {volume["name"] for volume in found["Deployment"]["spec"]["template"]["spec"]["volumes"]}


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


def test_the_collector_is_started_with_options_that_exist() -> None:
    check_arguments(source()["Deployment"])


def test_the_pod_is_restricted() -> None:
    check_restricted(source()["Deployment"])
    enforced = source()["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"


def test_the_collector_may_ask_the_kubernetes_api_nothing() -> None:
    assert not {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} & set(source())
    assert source()["ServiceAccount"]["automountServiceAccountToken"] is False
    assert source()["Deployment"]["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
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


@cache
def judge() -> Judge:
    """A small cluster with the collector in it, under our own NetworkPolicy."""
    labels = source()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    namespaces = ("leastway", "kube-system", "monitoring", "shop")
    documents = [
        *(namespace(name, **{"kubernetes.io/metadata.name": name}) for name in namespaces),
        pod("leastway/collector", labels, "10.0.0.1"),
        pod("kube-system/hubble-relay", {"k8s-app": "hubble-relay"}, "10.0.0.2"),
        pod("kube-system/coredns", {"k8s-app": "kube-dns"}, "10.0.0.3"),
        pod("kube-system/other", {"k8s-app": "other"}, "10.0.0.4"),
        pod("monitoring/prometheus", {"app": "prometheus"}, "10.0.0.5"),
        pod("shop/web", {"app": "web"}, "10.0.0.6"),
    ]
    return Judge(World.from_manifests(documents), [source()["NetworkPolicy"]])


@pytest.mark.parametrize(
    ("source_pod", "destination", "protocol", "port"),
    [
        ("shop/web", "leastway/collector", "TCP", 9001),
        ("shop/web", "leastway/collector", "TCP", 4317),
        ("monitoring/prometheus", "leastway/collector", "TCP", 9090),
        ("leastway/collector", "kube-system/hubble-relay", "TCP", 4245),
        ("leastway/collector", "kube-system/coredns", "UDP", 53),
        ("leastway/collector", "kube-system/coredns", "TCP", 53),
    ],
)
def test_our_own_policy_lets_the_collector_do_its_job(
    source_pod: str, destination: str, protocol: str, port: int
) -> None:
    verdict = judge().ask(Question(source=source_pod, destination=destination, protocol=protocol, port=port))
    assert verdict.outcome == "allow", verdict.because


@pytest.mark.parametrize(
    ("source_pod", "destination", "port"),
    [
        ("shop/web", "leastway/collector", 9090),
        ("shop/web", "leastway/collector", 22),
        ("203.0.113.7", "leastway/collector", 9001),
        ("leastway/collector", "kube-system/other", 4245),
        ("leastway/collector", "kube-system/hubble-relay", 80),
        ("leastway/collector", "shop/web", 80),
        ("leastway/collector", "203.0.113.7", 443),
        ("leastway/collector", "169.254.169.254", 80),
    ],
)
def test_our_own_policy_lets_nothing_else_through(source_pod: str, destination: str, port: int) -> None:
    verdict = judge().ask(Question(source=source_pod, destination=destination, port=port))
    assert verdict.outcome == "deny", verdict.because


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

"""`leastway can`: one question and many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("source", "destination", "port", "code", "verdict"),
    [
        ("shop/web", "shop/api", "8080", 0, "allow"),
        ("shop/web", "shop/db", "5432", 3, "deny"),
        ("shop/web", "shop/api", "8081", 3, "deny"),
        ("198.51.100.7", "shop/api", "8080", 3, "deny"),
    ],
)
def test_one_question_is_answered_with_a_verdict_and_its_rule(
    run: Run, policies: Path, inventory: Path, source: str, destination: str, port: str, code: int, verdict: str
) -> None:
    result = run("can", policies, "--inventory", inventory, "--from", source, "--to", destination, "--port", port)
    assert result.exit_code == code
    assert result.stdout.startswith(f"{verdict}: ")
    assert "NetworkPolicy shop/" in result.stdout


def test_one_question_is_answered_in_json(run: Run, policies: Path, inventory: Path) -> None:
    ends = ("--from", "shop/web", "--to", "shop/api", "--port", "8080")
    result = run("can", policies, "--inventory", inventory, *ends, "--format", "json")
    told = json.loads(result.stdout)
    assert told["verdict"] == "allow"
    assert "rule" in told["because"]


def test_an_end_that_does_not_exist_is_one_line_with_the_nearest_name(
    run: Run, policies: Path, inventory: Path
) -> None:
    result = run("can", policies, "--inventory", inventory, "--from", "shop/wbe", "--to", "shop/api", "--port", "8080")
    assert result.exit_code == 1
    assert "did you mean" in result.stderr
    assert "shop/web" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_many_questions_give_one_line_each_in_order(run: Run, policies: Path, inventory: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    asked = [
        {"from": "shop/web", "to": "shop/api", "protocol": "TCP", "port": 8080, "id": 1},
        {"from": "shop/web", "to": "shop/db", "port": 5432, "id": 2},
        {"from": "shop/nobody", "to": "shop/db", "port": 5432, "id": 3},
        {"from": "10.0.0.1", "to": "10.0.0.2", "port": 8080, "id": 4},
    ]
    questions.write_text("".join(json.dumps(question) + "\n" for question in asked))
    result = run("can", policies, "--inventory", inventory, "--queries", questions)
    assert result.exit_code == 0
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == [1, 2, 3, 4]
    assert [answer["verdict"] for answer in answers[:3]] == ["allow", "deny", "undefined"]
    assert all(answer["because"] for answer in answers)


@pytest.mark.parametrize(
    "line",
    [
        "nope",
        "[]",
        "{}",
        '{"from": "shop/web"}',
        '{"from": "shop/web", "to": "shop/api", "port": true}',
        '{"from": "shop/web", "to": "shop/api", "port": 70000}',
        '{"from": 1, "to": "shop/api", "port": 1}',
        '{"from": "shop/web", "to": "shop/api", "port": 1, "direct": "yes"}',
        "[" * 100_000,
        '{"from": "shop/web", "to": "shop/api", "port": 1, "path": {}}',
        "\x00\x01",
    ],
)
def test_a_line_that_is_no_question_is_undefined_and_does_not_stop_the_rest(
    run: Run, policies: Path, inventory: Path, line: str
) -> None:
    good = '{"from": "shop/web", "to": "shop/api", "port": 8080}'
    result = run("can", policies, "--inventory", inventory, "--queries", "-", stdin=f"{line}\n{good}\n")
    first, second = (json.loads(text) for text in result.stdout.splitlines())
    assert result.exit_code == 1
    assert (first["verdict"], second["verdict"]) == ("undefined", "allow")
    assert "-:1 " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--from", "a/b", "--to", "a/c"), "--port"),
        (("--from", "a/b", "--port", "1"), "--to"),
        (("--to", "a/b", "--port", "1"), "--from"),
        (("--from", "a/b", "--to", "a/c", "--port", "0"), "--port"),
        (("--queries", "-", "--from", "a/b"), "--from"),
    ],
)
def test_wrong_usage_names_the_option(
    run: Run, policies: Path, inventory: Path, arguments: tuple[str, ...], named: str
) -> None:
    result = run("can", policies, "--inventory", inventory, *arguments)
    assert result.exit_code == 2
    assert named in result.stderr


def test_without_an_inventory_it_is_a_usage_error(run: Run, policies: Path) -> None:
    result = run("can", policies, "--from", "a/b", "--to", "a/c", "--port", "1")
    assert result.exit_code == 2
    assert "--inventory" in result.stderr


def test_queries_that_are_not_there_are_one_line(run: Run, policies: Path, inventory: Path, tmp_path: Path) -> None:
    result = run("can", policies, "--inventory", inventory, "--queries", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


def test_a_mesh_is_assumed_where_istio_policies_are_judged(run: Run, tmp_path: Path, inventory: Path) -> None:
    path = tmp_path / "deny.yaml"
    path.write_text(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: d, namespace: shop}\nspec: {}\n"
    )
    ends = ("--from", "shop/web", "--to", "shop/api", "--port", "8080")
    result = run("can", path, "--inventory", inventory, *ends)
    assert result.exit_code == 3
    assert "mesh sidecar" in result.stderr
    assert run("can", path, "--inventory", inventory, *ends, "--mesh", "none").exit_code == 0


def test_the_pod_itself_may_be_asked_about_past_its_waypoint(run: Run, tmp_path: Path) -> None:
    cluster, policy = tmp_path / "cluster.yaml", tmp_path / "policy.yaml"
    pod = "{{kind: Pod, metadata: {{name: {0}, namespace: a, labels: {1}}}, spec: {{serviceAccountName: {0}}}}}"
    labels = "{istio.io/dataplane-mode: ambient, istio.io/use-waypoint: way}"
    cluster.write_text("\n---\n".join(pod.format(name, labels) for name in ("web", "api")))
    policy.write_text(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: d, namespace: a}\n"
        "spec: {targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: way}]}\n"
    )
    asked = ("can", policy, "--inventory", cluster, "--mesh", "ambient")
    ends = ("--from", "a/web", "--to", "a/api", "--port", "80")
    assert run(*asked, *ends).exit_code == 3
    assert run(*asked, *ends, "--direct").exit_code == 0
    questions = tmp_path / "questions.jsonl"
    question = {"from": "a/web", "to": "a/api", "port": 80}
    questions.write_text("".join(json.dumps({**question, "direct": way}) + "\n" for way in (False, True, None)))
    verdicts = [json.loads(line)["verdict"] for line in run(*asked, "--queries", questions).stdout.splitlines()]
    assert verdicts == ["deny", "allow", "deny"]


def test_of_several_services_the_one_that_is_called_may_be_named(run: Run, tmp_path: Path) -> None:
    cluster, policy = tmp_path / "cluster.yaml", tmp_path / "policy.yaml"
    pod = "{{kind: Pod, metadata: {{name: {0}, namespace: a, labels: {{app: {0}, istio.io/dataplane-mode: ambient}}}}}}"
    service = (
        "{{kind: Service, metadata: {{name: {0}, namespace: a, labels: {{istio.io/use-waypoint: {1}}}}}, "
        "spec: {{selector: {{app: api}}, ports: [{{port: 80}}]}}}}"
    )
    fronts = service.format("closed", "way"), service.format("open", "none")
    cluster.write_text("\n---\n".join([pod.format("web"), pod.format("api"), *fronts]))
    policy.write_text(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: d, namespace: a}\n"
        "spec: {targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: way}]}\n"
    )
    asked = ("can", policy, "--inventory", cluster, "--mesh", "ambient")
    ends = ("--from", "a/web", "--to", "a/api", "--port", "80")
    shown = [run(*asked, *ends, *more).stdout for more in ((), ("--service", "a/closed"), ("--service", "a/open"))]
    assert [text.partition(":")[0] for text in shown] == ["undefined", "deny", "allow"]
    missing = run(*asked, *ends, "--service", "a/opne")
    assert missing.exit_code == 1
    assert "did you mean a/open" in missing.stderr
    questions = tmp_path / "questions.jsonl"
    called: list[dict[str, Any]] = [
        {"service": "a/closed"},
        {"service": "a/open", "service_port": 80},
        {"service": "a/open", "service_port": 81},
        {"service_port": "x"},
    ]
    question = {"from": "a/web", "to": "a/api", "port": 80}
    questions.write_text("".join(json.dumps({**question, **more}) + "\n" for more in called))
    answers = [json.loads(line) for line in run(*asked, "--queries", questions).stdout.splitlines()]
    assert [answer["verdict"] for answer in answers] == ["deny", "allow", "undefined", "undefined"]
    assert "leads to no port 80/TCP of a/api from its port 81" in answers[2]["because"]
    assert "service_port 'x' is not between 0 and 65535" in answers[3]["because"]

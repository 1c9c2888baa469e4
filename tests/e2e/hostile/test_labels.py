"""Labels that say which run, revision or build a pod is of: a selector with one of them is empty after the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.hostile.scene import Outcome, Scene

BOTH = pytest.mark.parametrize("inventory", [False, True], ids=["flows-only", "inventory"])


def _selectors(out: Outcome) -> list[dict[str, str]]:
    found = [d["spec"]["podSelector"].get("matchLabels", {}) for d in out.policies("NetworkPolicy")]
    return [selector for selector in found if selector and selector != {"app": "db"}]


def _bare(out: Outcome) -> bool:
    return out.review("unselectable") != []


@BOTH
def test_revisions_of_a_knative_service_are_one_workload(tmp_path: Path, inventory: bool) -> None:
    """Each revision is a Deployment of its own, whose selector is the revision's uid."""
    s = Scene()
    activator = s.pod("serving/activator")
    for service, numbers in (("hello", (1, 2)), ("other", (1,))):
        for number in numbers:
            revision = f"{service}-0000{number}"
            labels = {"app": revision, "serving.knative.dev/configuration": service}
            labels |= {"serving.knative.dev/configurationGeneration": str(number)}
            labels |= {"serving.knative.dev/revision": revision, "serving.knative.dev/revisionUID": f"uid-{revision}"}
            pod = s.pod(f"kn/{revision}-deployment", labels | {"serving.knative.dev/service": service})
            s.talk(activator, pod, 8012)
    documents = s.documents()
    for document in documents:
        if document["kind"] == "Deployment" and document["metadata"]["namespace"] == "kn":
            chosen = document["spec"]["selector"]["matchLabels"]
            document["spec"]["selector"]["matchLabels"] = {
                k: v for k, v in chosen.items() if k == "serving.knative.dev/revisionUID"
            }
    s.documents = lambda: documents  # type: ignore[method-assign]
    out = s.run(tmp_path, inventory=inventory)
    pods = [f"kn/{revision}-deployment" for revision in ("hello-00001", "hello-00002", "other-00001")]
    assert out.wrong([("serving/activator", pod, 8012) for pod in pods]) == []
    found = [next(iter(selector.items())) for selector in _selectors(out) if "app" not in selector]
    assert found == [("serving.knative.dev/configuration", service) for service in ("hello", "other")]


@pytest.mark.parametrize(
    "mark",
    [("build", "8f3c2a1"), ("date", "20260504"), ("image", "2.14.3"), ("id", "0b9e4f7a-52ab-4c1e-9d27-0b9e4f7a52ab")],
)
@pytest.mark.parametrize("lasting", [1, 2])
def test_a_label_that_looks_like_a_build_is_the_last_resort(
    tmp_path: Path, mark: tuple[str, str], lasting: int
) -> None:
    """Even where it alone would tell the pods from all others and lasting labels do so only together."""
    s = Scene()
    key, value = mark
    parts = {"component": "web", "tier": "edge"}
    web = s.pod("shop/web", {"app": "shop", **parts, key: value})
    others = [{"component": "api", "tier": "edge"}, {"component": "web", "tier": "back"}][:lasting]
    for number, labels in enumerate(others):
        s.talk(web, s.pod(f"shop/other-{number}", {"app": "shop", **labels, key: value[::-1]}), 8080)
    out = s.run(tmp_path)
    assert out.wrong([("shop/web", f"shop/other-{number}", 8080) for number in range(lasting)]) == []
    assert not any(key in selector for selector in _selectors(out))


def test_a_build_that_is_all_there_is_still_tells_two_workloads_apart(tmp_path: Path) -> None:
    s = Scene()
    one, two = (
        s.pod(f"shop/{name}", {"app": "shop", "build": mark}) for name, mark in (("a", "8f3c2a1"), ("b", "1c2d3e4"))
    )
    s.talk(one, two, 8080)
    assert s.run(tmp_path).wrong([("shop/a", "shop/b", 8080)]) == []


@BOTH
@pytest.mark.parametrize(
    ("lasting", "run"),
    [
        ({"workflows.argoproj.io/workflow-template": "etl"}, "workflows.argoproj.io/workflow"),
        ({"tekton.dev/task": "build"}, "tekton.dev/taskRun"),
        ({"tekton.dev/pipeline": "ship"}, "tekton.dev/pipelineRun"),
        ({"spark-role": "driver"}, "spark-app-selector"),
        ({"dag_id": "daily", "task_id": "load"}, "run_id"),
        ({}, "workflows.argoproj.io/workflow"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value) or "nothing",
)
def test_each_run_of_a_pipeline_has_a_label_of_its_own(
    tmp_path: Path, inventory: bool, lasting: dict[str, str], run: str
) -> None:
    s = Scene()
    db = s.pod("ci/db")
    runs = [
        s.pod(f"ci/run-{mark}", {**lasting, run: f"run-{mark}"}, kind="Pod", pod=f"run-{mark}")
        for mark in ("x7k2p", "zq8wv")
    ]
    for pod in runs:
        s.talk(pod, db, 5432)
    out = s.run(tmp_path, inventory=inventory)
    assert not any(run in selector for selector in _selectors(out))
    assert out.wrong([(pod.ref, "ci/db", 5432) for pod in runs] * bool(lasting), closed=False) == []
    assert _bare(out) == (not lasting)

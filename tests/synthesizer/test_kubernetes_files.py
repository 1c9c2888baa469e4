"""Text with Kubernetes objects in it is read the way Kubernetes reads it, or refused with the place of the fault."""

from __future__ import annotations

import gzip
import json
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.errors import InventoryError
from synthesizer.inventory import load, parse
from synthesizer.kubernetes_files import DEPTH, documents

YAML = b"""\
# a list and two documents, one empty
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: shop, creationTimestamp: 2024-01-01T00:00:00Z}
  spec:
    replicas: 2
    selector: {matchLabels: &labels {app: web}}
    template:
      metadata:
        labels:
          <<: *labels
          version: "1.0"
      spec: {containers: [{name: app, ports: [{containerPort: 8080}]}], hostNetwork: no}
---
---
apiVersion: v1
kind: PodList
items:
- metadata: {name: bare}
"""


def test_lists_multi_document_files_json_gzip_and_folders_read_alike(tmp_path: Path) -> None:
    deep = tmp_path / "apps" / "web"
    deep.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.yaml").write_text("not: {an object")
    (deep / "kustomization.yaml").write_text("resources: [all.yaml]")
    (deep / "README.md").write_text("{{")
    (deep / "all.yaml").write_bytes(YAML)
    objects = [document for _, document in documents(YAML, "x")]
    (tmp_path / "all.json").write_text("\n".join(json.dumps(each) for each in objects))
    (tmp_path / "all.yaml.gz").write_bytes(gzip.compress(YAML))
    (tmp_path / "array.json").write_text("\ufeff" + json.dumps(objects, indent=1), encoding="utf-8")
    expected = load([str(deep / "all.yaml")])
    assert [(w.namespace, w.kind, w.name) for w in expected.workloads] == [
        ("default", "Pod", "bare"),
        ("shop", "Deployment", "web"),
    ]
    web = expected.workloads[1]
    assert web.all_labels == {"app": "web", "version": "1.0"}
    assert web.selector == (("app", "web"),)
    assert not web.host_network
    for path in (tmp_path, tmp_path / "all.json", tmp_path / "all.yaml.gz", tmp_path / "array.json"):
        assert load([str(path)]).workloads == expected.workloads, path


def test_scalars_are_read_as_kubernetes_reads_them() -> None:
    read = dict(documents(b"{}", "x"))
    assert read == {"x": {}}
    source = b"a: 2024-01-01\nb: yes\nc: ~\nd: 010\ne: 0x1f\nf: 1e3\ng: 22:30\nh: '1'\n8080: x\ni: -7\nj: 1.5\n"
    assert [document for _, document in documents(source, "x")] == [
        {
            "a": "2024-01-01",
            "b": True,
            "c": None,
            "d": 8,
            "e": 31,
            "f": 1000.0,
            "g": "22:30",
            "h": "1",
            "8080": "x",
            "i": -7,
            "j": 1.5,
        }
    ]


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (b"kind: Pod\nmetadata: {name: a}\n---\nfoo: 1\n", "document 2", "without a kind"),
        (b"kind: Pod\nmetadata: {name: a}\n---\n- 1\n", "document 2", "a list"),
        (b"just text", "document 1", "text"),
        (b"kind: List\nitems: [{kind: Pod, metadata: {name: a}}, 7]", "document 1, item 2", "a number"),
        (b"kind: Pod\nmetadata: {name: a}\n---\na: [\n", "document 2", "YAML"),
        (b"a: {{ .Values.x }}\n", "document 1", "YAML"),
        (b'{"kind": "Pod", ', "f.yaml", "JSON"),
        (b"kind: Pod\nmetadata: {name: ../../etc/passwd}", "document 1", "valid name"),
        (b"kind: Pod\nmetadata: {name: a, namespace: 'x\\n'}", "document 1", "namespace"),
        (b"kind: Pod\nmetadata: {name: a, labels: {version: 1.10}}", "document 1", "version"),
        (b"kind: Pod\nmetadata: {name: a, labels: {v: 'a b'}}", "document 1", "label v"),
        (b"a: !!python/object/apply:os.system [ls]", "document 1", "tag"),
        (b"a: *nowhere", "document 1", "alias"),
        (b"a: &x [*x]", "document 1", "alias"),
        (b"a: \x00", "document 1", "YAML"),
        (b"\xff\xfe\xff", "document 1", "YAML"),
        (b"? [a]\n: b", "document 1", "key"),
        (b"[" * (DEPTH + 1), "document 1", "nested"),
        (b"x: " + b"[" * (DEPTH + 1), "document 1", "nested"),
        (b'{"a":' * 100_000, "f.yaml", "JSON"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_place(
    tmp_path: Path, content: bytes, where: str, what: str
) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(content)
    with pytest.raises(InventoryError) as caught:
        load([str(file)])
    line = str(caught.value)
    assert "\n" not in line
    assert "f.yaml" in line
    assert caught.value.hint
    if content[:1] != b"[":  # that one is JSON by its first letter, and JSON has no document numbers
        assert where in line
        assert what in line


def test_missing_files_empty_folders_and_broken_gzip_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml.gz").write_bytes(gzip.compress(YAML)[:-9])
    (tmp_path / "empty").mkdir()
    for path in ("missing.yaml", "broken.yaml.gz", "empty", "nul\0.yaml"):
        with pytest.raises(InventoryError) as caught:
            load([str(tmp_path / path)])
        assert caught.value.where
        assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "what"),
    [("", ""), ("---\n---\n", ""), ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "1 ConfigMap")],
)
def test_an_inventory_of_nothing_is_refused(tmp_path: Path, content: str, what: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(content)
    with pytest.raises(InventoryError, match="no object that an inventory is made of") as caught:
        load([str(file)])
    assert what in str(caught.value)
    assert "kubectl get" in caught.value.hint


def test_aliases_that_multiply_are_refused_at_once() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 60))
    started = time.monotonic()
    with pytest.raises(InventoryError, match="aliases"):
        list(documents(bomb.encode(), "bomb"))
    assert time.monotonic() - started < 1


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text("ab:-[]{}&*! \n\"'|>?%#<", max_size=60).map(str.encode))
def test_text_of_any_kind_is_read_or_refused_never_a_crash(data: bytes) -> None:
    with suppress(InventoryError):
        parse([document for _, document in documents(data, "x")])

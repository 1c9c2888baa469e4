"""kustomization.yaml lists what was written beside it, and each intent has an output."""

from __future__ import annotations

from typing import get_args

import yaml

from synthesizer import Options
from synthesizer.outputs import OUTPUTS, Intent
from tests.synthesizer.traffic import Traffic, made


def test_each_namespace_lists_its_own_files_sorted() -> None:
    traffic = Traffic()
    traffic.talk(traffic.pod("shop/web"), traffic.pod("data/db"), 5432)
    traffic.call(traffic.proxied("shop/web", "web"), traffic.pod("shop/api"), 80, "GET /")
    result = made(traffic, options=Options(mesh="sidecar"))
    lists = [m for m in result.manifests if m.kind == "Kustomization"]
    assert [m.path for m in lists] == ["data/kustomization.yaml", "shop/kustomization.yaml"]
    for each in lists:
        folder = each.path.rpartition("/")[0]
        beside = sorted(m.path.removeprefix(f"{folder}/") for m in result.manifests if m.path.startswith(f"{folder}/"))
        assert yaml.safe_load(each.text)["resources"] == [name for name in beside if name != "kustomization.yaml"]


def test_every_intent_has_exactly_one_output() -> None:
    assert set(OUTPUTS) == set(get_args(Intent))

"""Who a pod, a name or an account belongs to, while workloads are still being joined."""

from __future__ import annotations

from synthesizer.roster import Roster
from synthesizer.workload import Workload


def test_a_workload_is_found_by_each_of_its_pods_their_name_and_its_account() -> None:
    web = Workload("shop", "front", service_account="web", pods=("web-6b746f74dc-9rcxx", "web-6b746f74dc-zq8wv"))
    other = Workload("bank", "front", service_account="web", pods=("web-6b746f74dc-9rcxx",))
    roster = Roster([web, other])
    assert roster.of_pods("shop", web.pods) == [web]
    assert roster.of_pods_named("shop", "web") == [web]
    assert roster.named("bank", "front") == [other]
    assert roster.of_account("shop", "web") == [web]
    assert roster.of_pods("shop", ["api-0"]) == roster.named("shop", "web") == []


def test_those_that_share_an_account_are_all_found() -> None:
    workloads = [Workload("shop", name, service_account="default") for name in ("web", "api")]
    assert Roster(workloads).of_account("shop", "default") == workloads


def test_what_was_learned_since_counts_once_it_is_entered() -> None:
    web = Workload("shop", "web")
    roster = Roster([web])
    web.pods, web.service_account = ("web-0",), "web"
    assert roster.of_pods("shop", ["web-0"]) == []
    roster.enter(web)
    assert roster.of_pods("shop", ["web-0"]) == roster.of_account("shop", "web") == [web]

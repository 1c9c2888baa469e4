"""Calico's own tests of how it reads a Kubernetes NetworkPolicy, and its tutorials, re-authored.

A case is named as its `It` in projectcalico/calico's libcalico-go/lib/backend/k8s/conversion/conversion_test.go,
without its "should parse a", or as its tutorial in Calico's documentation. The originals compare the Calico rules that
come out; here what these rules mean is a table of connections, as in `npguard_cases`, over a small cluster. `(k8s <=
1.7, no policyTypes)` are the same once more without policyTypes.

Not here: what Calico's API alone can express (tiers, order, Deny, Log and Pass, selectors over service accounts, host
endpoints, HTTP, AdminNetworkPolicy and ClusterNetworkPolicy), which the judge names as unjudged; felix's tests of how
rules get into the kernel; conversions of pods and namespaces to endpoints and profiles, which decide nothing. Where
Calico drops a rule that it cannot convert, the API server has refused the policy before: `REFUSED`.
"""

from __future__ import annotations

from leastway.verify.reading import Document
from tests.verify.npguard_cases import ANY, Case, Labels, about, block, chosen, into, onto, peer

PODS: dict[str, Labels] = {
    "default/subject": {"label": "value", "label2": "value2"},
    "default/kv": {"k": "v", "k2": "v2"}, "default/k": {"k": "v"}, "default/k2": {"k2": "v2"},
    "default/toast": {"toast": "brown"}, "default/v1": {"k": "v1"},
    "dev/pod": {"podA": "B"}, "dev/bd": {"podA": "B", "podC": "D"}, "half/bd": {"podA": "B", "podC": "D"},
    "other/kv": {"k": "v", "k2": "v2"},
}  # fmt: skip
SPACES = {"dev": {"namespaceRole": "dev", "namespaceFoo": "bar"}, "half": {"namespaceRole": "dev"}}
PORTS = {"default/subject": "foo TCP 7000", "default/kv": "foo TCP 7001"}
SUBJECT, ONE, KV = chosen("label:value", "label2:value2"), chosen("label:value"), peer(chosen("k:v", "k2:v2"))
EITHER = (peer(chosen("k:v")), peer(chosen("k2:v2")))
DEV = chosen("namespaceRole:dev", "namespaceFoo:bar")
INTO_SUBJECT = "* => default/subject : No Connections\n* => * : All Connections"
ALONE = "* => * : All Connections"
RANGES = ("0.0.0.0-192.167.255.255", "192.168.0.0-192.168.2.255", "192.168.3.0-192.168.4.255",
          "192.168.5.0-192.168.255.255", "192.169.0.0-255.255.255.255")  # fmt: skip


def inward(name: str, of: Document, rows: str, *rules: Document, ranges: tuple[str, ...] = RANGES[:1]) -> Case:
    """A case of one policy about ingress; `rows` goes before all else that is open."""
    written = about("default/test.policy", of, "I", ingress=list(rules))
    return Case(name, PODS, [written], f"{rows}\n{ALONE}", SPACES, PORTS, ranges)


def outward(name: str, of: Document, rows: str, *rules: Document, ranges: tuple[str, ...] = RANGES[:1]) -> Case:
    written = about("default/test.policy", of, "E", egress=list(rules))
    return Case(name, PODS, [written], f"{rows}\n{ALONE}", SPACES, PORTS, ranges)


def to_subject(*rows: str) -> str:
    return "\n".join([*rows, "* => default/subject : No Connections"])


def ports(*entries: Document, side: str = "from", peers: tuple[Document, ...] = (KV,)) -> Document:
    """A rule whose port entries are written out, empty ones too."""
    return {side: list(peers), "ports": list(entries)}


LATE = block("192.168.0.0/16", "192.168.3.0/24", "192.168.4.0/24")
ALL_EXCEPT = ("192.168.0.0-*", "192.168.5.0-*")
INGRESS = [
    inward("basic k8s NetworkPolicy to a NetworkPolicy", SUBJECT,
           to_subject("default/kv => default/subject : TCP 80,7000"), into("80,foo", KV)),
    inward("k8s NetworkPolicy with no ports", SUBJECT,
           to_subject("default/kv => default/subject : All Connections"), into("", KV)),
    inward("k8s NetworkPolicy with blank ports", SUBJECT,
           to_subject("default/kv => default/subject : TCP 1-65535"), ports({"port": 80}, {})),
    inward("NetworkPolicy with no rules", ONE, to_subject()),
    inward("NetworkPolicy with multiple peers", ONE,
           to_subject("default/k* => default/subject : TCP 1-65535"), ports({}, peers=EITHER)),
    inward("k8s NetworkPolicy with a DoesNotExist expression", SUBJECT,
           to_subject("default/toast => default/subject : No Connections",
                      "default/* => default/subject : TCP 80,7000"), into("80,foo", peer(chosen("!toast")))),
    inward("NetworkPolicy with multiple peers and ports", ONE,
           to_subject("default/k* => default/subject : TCP 80,UDP 90"), into("UDP 90,TCP 80", *EITHER)),
    inward("NetworkPolicy with empty podSelector", ANY, "* => default/* : No Connections"),
    inward("NetworkPolicy with a namespaceSelector", ONE,
           to_subject("dev/* => default/subject : All Connections"), into("", peer(spaces=DEV))),
    inward("NetworkPolicy with a nil namespace selector", ONE,
           to_subject("default/* => default/subject : All Connections"), into("", peer(ANY))),
    inward("NetworkPolicy with an empty namespaceSelector", ONE,
           to_subject("*/* => default/subject : All Connections"), into("", peer(spaces=ANY))),
    inward("NetworkPolicy with pod and namespace selectors", ONE,
           to_subject("dev/bd => default/subject : All Connections"),
           into("", peer(chosen("podA:B", "podC:D"), DEV))),
    inward("NetworkPolicy with podSelector.MatchExpressions", chosen("k=v1|v2"), "* => default/v1 : No Connections"),
    inward("NetworkPolicy with Ports only", ANY, "* => default/* : TCP 80", into("TCP 80")),
    inward("NetworkPolicy with Port Range only", ANY, "* => default/* : TCP 32000-32768", into("TCP 32000-32768")),
    inward("NetworkPolicy with an Ingress rule with an IPBlock Peer", ANY,
           "\n".join(f"{name} => default/* : All Connections" for name in ALL_EXCEPT)
           + "\n* => default/* : No Connections", into("", LATE), ranges=RANGES),
    inward("NetworkPolicyPeer with an IPBlock Peer and no Except field", ANY,
           "192.168.* => default/* : All Connections\n* => default/* : No Connections",
           into("", block("192.168.0.0/16")), ranges=RANGES),
]  # fmt: skip
BOTH_WAYS = about(
    "default/test.policy", ANY, "IE", ingress=[into("", LATE)],
    egress=[onto("", block("10.10.0.0/16", "10.10.13.0/24", "10.10.14.0/23"))],
)  # fmt: skip
EGRESS = [
    outward("k8s egress NetworkPolicy with blank ports", SUBJECT,
            "default/subject => default/kv : TCP 1-65535,UDP 53\ndefault/subject => * : UDP 53",
            ports({}, {"port": 80}, side="to"), onto("UDP 53")),
    outward("default-deny egress NetworkPolicy", ANY, "default/* => * : No Connections"),
    outward("NetworkPolicy with Ports only (egress)", ANY, "default/* => * : TCP 80", onto("TCP 80")),
    outward("NetworkPolicy with Port Range only (egress)", ANY, "default/* => * : TCP 32000-32768",
            onto("TCP 32000-32768")),
    outward("NetworkPolicy with an Egress rule with an IPBlock Peer", ANY,
            "\n".join(f"default/* => {name} : All Connections" for name in ALL_EXCEPT)
            + "\ndefault/* => * : No Connections", onto("", LATE), ranges=RANGES),
    outward("NetworkPolicy with an Egress rule with IPBlock and Ports", ANY,
            "\n".join(f"default/* => {name} : TCP 80,UDP 90" for name in ALL_EXCEPT)
            + "\ndefault/* => * : No Connections", onto("UDP 90,TCP 80", LATE), ranges=RANGES),
    Case("NetworkPolicy with both an Egress and an Ingress rule", PODS, [BOTH_WAYS],
         "192.168.0.0-* => default/* : All Connections\n192.168.5.0-* => default/* : All Connections\n"
         "default/* => 10.10.0.0-* : All Connections\ndefault/* => 10.10.16.0-* : All Connections\n"
         "default/* => * : No Connections\n* => default/* : No Connections\n* => * : All Connections", SPACES, PORTS,
         (*RANGES, "10.10.0.0-10.10.12.255", "10.10.13.0-10.10.15.255", "10.10.16.0-10.10.255.255")),
]  # fmt: skip


def untyped(case: Case) -> Case:
    """The same without policyTypes."""
    (written,) = case.policies
    spec = {key: value for key, value in written["spec"].items() if key != "policyTypes"}
    return case._replace(name=f"{case.name} (k8s <= 1.7, no policyTypes)", policies=[{**written, "spec": spec}])


STARS: dict[str, Labels] = {
    "stars/frontend": {"role": "frontend"}, "stars/backend": {"role": "backend"}, "client/client": {"role": "client"},
    "management-ui/management-ui": {"role": "management-ui"}, "elsewhere/pod": {"role": "frontend"},
}  # fmt: skip
ROLES = {"client": {"role": "client"}, "management-ui": {"role": "management-ui"}}
CLOSED = [about(f"{space}/default-deny", ANY, ingress=[]) for space in ("stars", "client")]
UI = [about(f"{space}/allow-ui", ANY, ingress=[into("", peer(spaces=chosen("role:management-ui")))])
      for space in ("stars", "client")]  # fmt: skip
TO_BACKEND = about("stars/backend-policy", chosen("role:backend"), ingress=[
    into("TCP 6379", peer(chosen("role:frontend")))])  # fmt: skip
TO_FRONTEND = about("stars/frontend-policy", chosen("role:frontend"), ingress=[
    into("TCP 80", peer(spaces=chosen("role:client")))])  # fmt: skip
FROM_UI = "management-ui/* => * : All Connections"
NONE_IN = "* => stars/* : No Connections\n* => client/* : No Connections\n* => * : All Connections"
FRONT_TO_BACK = "stars/frontend => stars/backend : TCP 6379"
DEMO: dict[str, Labels] = {
    "policy-demo/nginx": {"app": "nginx"}, "policy-demo/access": {"run": "access"},
    "policy-demo/cant-access": {"run": "cant-access"}, "kube-system/dns": {"k8s-app": "kube-dns"},
}  # fmt: skip
DEMO_DENY = about("policy-demo/default-deny", chosen(), ingress=[])
DEMO_ACCESS = about("policy-demo/access-nginx", chosen("app:nginx"), ingress=[into("", peer(chosen("run:access")))])
NGINX, ADVANCED = chosen("app:nginx"), {"policy-demo": {}, "kube-system": {"name": "kube-system"}}
SHUT_OUT = "policy-demo/* => * : No Connections\n* => * : All Connections"
STEPS: list[tuple[str, list[Document], str]] = [
    ("ingress denied", [about("policy-demo/in", ANY, "I")],
     "* => policy-demo/* : No Connections\n* => * : All Connections"),
    ("ingress to nginx allowed", [about("policy-demo/in", ANY, "I"),
                                  about("policy-demo/access-nginx", NGINX, ingress=[into()])],
     "* => policy-demo/nginx : All Connections\n* => policy-demo/* : No Connections\n* => * : All Connections"),
    ("egress denied", [about("policy-demo/out", ANY, "E")],
     SHUT_OUT),
    ("DNS egress allowed", [about("policy-demo/out", ANY, "E"),
                            about("policy-demo/dns", ANY, "E",
                                  egress=[onto("UDP 53", peer(spaces=chosen("name:kube-system")))])],
     "policy-demo/* => kube-system/* : UDP 53\n" + SHUT_OUT),
    ("egress to nginx allowed", [about("policy-demo/out", ANY, "E"),
                                 about("policy-demo/to-nginx", chosen("run:access"), "E",
                                       egress=[onto("", peer(NGINX))])],
     "policy-demo/access => policy-demo/nginx : All Connections\n" + SHUT_OUT),
]  # fmt: skip
TUTORIALS = [
    Case("Kubernetes policy, demo (stars): isolated", STARS, CLOSED, NONE_IN, ROLES),
    Case("Kubernetes policy, demo (stars): allow-ui", STARS, CLOSED + UI, f"{FROM_UI}\n{NONE_IN}", ROLES),
    Case("Kubernetes policy, demo (stars): backend-policy", STARS, [*CLOSED, *UI, TO_BACKEND],
         f"{FROM_UI}\n{FRONT_TO_BACK}\n{NONE_IN}", ROLES),
    Case("Kubernetes policy, demo (stars): frontend-policy", STARS, [*CLOSED, *UI, TO_BACKEND, TO_FRONTEND],
         f"{FROM_UI}\n{FRONT_TO_BACK}\nclient/client => stars/frontend : TCP 80\n{NONE_IN}", ROLES),
    Case("Kubernetes policy, basic tutorial: isolated", DEMO, [DEMO_DENY],
         "* => policy-demo/* : No Connections\n* => * : All Connections"),
    Case("Kubernetes policy, basic tutorial: access-nginx", DEMO, [DEMO_DENY, DEMO_ACCESS],
         "policy-demo/access => policy-demo/nginx : All Connections\n* => policy-demo/* : No Connections\n"
         "* => * : All Connections"),
    *(Case(f"Kubernetes policy, advanced tutorial: {name}", DEMO, policies, rows, ADVANCED)
      for name, policies, rows in STEPS),
]  # fmt: skip
CASES = [*INGRESS, *EGRESS, *map(untyped, INGRESS), *TUTORIALS]
REFUSED: dict[str, Document] = {
    "should drop rules with invalid ports in a k8s NetworkPolicy": about(
        "default/p", ANY, "I", ingress=[ports({"port": 80}, {"port": "-50:-1"})]
    ),
    "should drop rules with invalid ports in a k8s NetworkPolicy, egress": about(
        "default/p", ANY, "E", egress=[ports({"port": "-22:-3"}, side="to")]
    ),
    "should have empty and Nil NetworkPolicyPeerfields when an IPBlock is invalid": about(
        "default/p", ANY, "I", ingress=[into("", block("192.168.0.0/55"))]
    ),
    "NetworkPolicy with both an Egress and an Ingress rule, exceptions outside their block": about(
        "default/p", ANY, "E", egress=[onto("", block("10.10.0.0/16", "192.168.13.0/24"))]
    ),
}

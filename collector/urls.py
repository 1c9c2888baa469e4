"""From the URL of a proxy's record to the path that a policy sees.

Invariant: what comes out starts with "/" and carries no query or fragment, or it is "".
"""

from __future__ import annotations

import re

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}://")


def path_of(url: str) -> str:
    """The path of an absolute URL or request target: `http://reviews:9080/reviews/0?x=1` → `/reviews/0`.

    "" when there is none that a policy could match (authority form, `*`).
    """
    if _SCHEME.match(url):  # and not a path whose query holds a URL
        rest = url.split("://", 1)[1]
        cut = min((i for i in (rest.find("/"), rest.find("?"), rest.find("#")) if i >= 0), default=-1)
        url = "/" if cut < 0 else rest[cut:] if rest[cut] == "/" else "/" + rest[cut:]
    path = url.partition("?")[0].partition("#")[0]
    return path if path.startswith("/") else ""

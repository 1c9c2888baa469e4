"""`can`: one question as a JSON object, or a line of text, to a plain answer.

Invariant: a line always has an answer. One that is no question is undefined, and `because` says what is wrong with it.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from leastway.verify.errors import PolicyError, line
from leastway.verify.judge import Judge, Question

TEXTS = {"from", "to", "protocol", "principal", "method", "path", "host", "from_address", "to_address", "service"}
FIELDS = TEXTS | {"port", "service_port", "direct"}


def answer(judge: Judge, query: dict[str, Any]) -> dict[str, Any]:
    """The query with `verdict` (`allow`, `deny`, `undefined`), `because` and `layer`; raises `PolicyError`."""
    verdict = judge.ask(read_question(query))
    return {**query, "verdict": verdict.outcome, "because": verdict.because, "layer": verdict.layer}


def answer_line(judge: Judge, text: str | bytes) -> tuple[dict[str, Any], bool]:
    """A line's fields with the verdict on it, and whether the line was a question at all.

    Fields that the judge does not know are handed back as they are, so that a caller can recognise its questions.
    """
    asked: dict[str, Any] = {}
    readable = False
    try:
        found = json.loads(text, parse_float=_finite, parse_constant=_finite)
        if not isinstance(found, dict):
            raise PolicyError("a query is one JSON object")
        asked = found
        known = {name: value for name, value in asked.items() if name in FIELDS}
        read_question(known)
        readable = True
        return {**asked, **answer(judge, known)}, readable
    except PolicyError as error:
        because = str(error)
    except (ValueError, RecursionError) as error:
        because = f"not JSON: {line(str(error), 160)}"
    return {**asked, "verdict": "undefined", "because": because, "layer": ""}, readable


def _finite(text: str) -> float:
    """A number that JSON can hold: the fields of a question are handed back as they are."""
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text[:40]} is no number in JSON")
    return number


def read_question(query: dict[str, Any]) -> Question:
    """A query object as a `Question`; raises `PolicyError` naming the field."""
    unknown = sorted(set(query) - FIELDS)
    if unknown:
        raise PolicyError(f"unknown field {', '.join(unknown)[:100]}", "query", f"known: {', '.join(sorted(FIELDS))}")
    found = {name: query.get(name) for name in FIELDS}
    for name in sorted(TEXTS):
        if found[name] is not None and not isinstance(found[name], str):
            raise PolicyError(f"{name} is not text", "query")
    if not found["from"] or not found["to"]:
        raise PolicyError("a query needs from and to", "query")
    if not isinstance(found["direct"], bool | None):
        raise PolicyError("direct is neither true nor false", "query")
    return Question(
        source=found["from"],
        destination=found["to"],
        protocol=(found["protocol"] or "TCP").upper(),
        port=_port("port", found["port"]),
        method=found["method"] or "",
        path=found["path"] or "",
        principal=found["principal"],
        host=found["host"] or "",
        source_address=found["from_address"] or "",
        destination_address=found["to_address"] or "",
        direct=bool(found["direct"]),
        service=found["service"] or "",
        service_port=_port("service_port", found["service_port"] or 0),
    )


def _port(name: str, value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 65536:
        raise PolicyError(f"{name} {str(value)[:40]!r} is not between 0 and 65535", "query")
    return value

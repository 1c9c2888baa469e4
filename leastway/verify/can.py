"""`can`: one question, or a stream of them as JSON lines, to plain answers.

Invariant: one answer for each line, in order; a line that cannot be asked is answered with an error that names line and
problem, and never stops the stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from leastway.verify.errors import PolicyError, line
from leastway.verify.judge import Judge, Question

TEXTS = {"from", "to", "protocol", "principal", "method", "path", "host", "from_address", "to_address", "service"}
FIELDS = TEXTS | {"port", "service_port", "direct"}


def answer(judge: Judge, query: dict[str, Any]) -> dict[str, Any]:
    """The query with `verdict` (`allow`, `deny`, `undefined`), `because` and `layer`; raises `PolicyError`."""
    verdict = judge.ask(read_question(query))
    return {**query, "verdict": verdict.outcome, "because": verdict.because, "layer": verdict.layer}


def answers(judge: Judge, lines: Iterable[str | bytes]) -> Iterator[dict[str, Any]]:
    """One answer per non-empty line; `{"error", "line"}` for a line that is no question."""
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            query = json.loads(text)
            if not isinstance(query, dict):
                raise PolicyError("a query is a JSON object", f"line {number}")
            yield answer(judge, query)
        except PolicyError as error:
            yield {"error": str(error), "line": number}
        except (ValueError, RecursionError) as error:
            yield {"error": f"not JSON: {line(str(error), 160)}", "line": number}


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

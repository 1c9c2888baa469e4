"""The Jinja environment: intent in, YAML text out.

Invariant: every value that came from traffic or a cluster passes through `| yaml`, which writes it as JSON, so that no
label, path or name can change the structure of the document. Undefined names are errors, not empty strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2

from collector.errors import RenderError
from synthesizer.package_data import templates_root

_json = json.JSONEncoder(ensure_ascii=False).encode
_OUTSIDE_ASCII = re.compile("[^ -~]")
# A template is a small program of the user's: it can divide by zero, include itself, be in Latin-1.
_FAULTS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


def to_yaml(value: object) -> str:
    """A scalar or flat list as JSON, which every YAML parser reads as just that value.

    Line separators and non-ASCII text are escaped, so that no reader sees a line break where there is none. Code points
    beyond 16 bits are escaped as in YAML, whose parsers refuse JSON's surrogate pairs.
    """
    if type(value) is str:
        return _quoted(value)
    return _OUTSIDE_ASCII.sub(_escaped, _json(list(value) if isinstance(value, tuple) else value))


@lru_cache(maxsize=1 << 14)
def _quoted(text: str) -> str:
    return _OUTSIDE_ASCII.sub(_escaped, _json(text))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def to_comment(value: object) -> str:
    """One of our own short texts, for a comment line: a line break in it would end the comment."""
    text = str(value)
    if not text.isascii() or not text.replace("-", " ").replace(" ", "").isalnum():
        raise RenderError(f"{text[:40]!r} may not stand in a comment", where="template", hint="use the yaml filter")
    return text


class Renderer:
    """Renders templates by name; `folder`, the user's own, is searched before ours."""

    def __init__(self, folder: str | None = None) -> None:
        if folder is not None and not Path(folder).is_dir():
            raise RenderError("no such folder", where=folder, hint="--templates takes a folder laid out like ours")
        self.environment = _environment(folder)

    def render(self, template: str, **values: Any) -> str:
        """The text of one document, ending in a newline.

        Raises RenderError when the template is missing or broken, with the template's name and line.
        """
        try:
            return self.environment.get_template(template).render(values).rstrip("\n") + "\n"
        except jinja2.TemplateNotFound as error:
            raise RenderError(f"no template {error.name}", where=template, hint="see the templates folder") from error
        except jinja2.TemplateSyntaxError as error:
            raise RenderError(
                str(error.message), where=f"{error.filename or template}:{error.lineno}", hint="mend the template"
            ) from error
        except _FAULTS as error:
            raise RenderError(str(error), where=template, hint="mend the template") from error


@lru_cache(maxsize=8)
def _environment(folder: str | None) -> jinja2.Environment:
    loaders: list[jinja2.BaseLoader] = [jinja2.FileSystemLoader(folder)] if folder else []
    loaders.append(jinja2.FunctionLoader(_packaged))
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  # this writes YAML, where HTML's escapes would be wrong; see `to_yaml`
        keep_trailing_newline=True,
    )
    filters: Mapping[str, Any] = {"yaml": to_yaml, "comment": to_comment}
    environment.filters.update(filters)
    return environment


def _packaged(name: str) -> str | None:
    target = templates_root()
    for part in name.split("/"):
        target = target / part
    return target.read_text(encoding="utf-8") if target.is_file() else None

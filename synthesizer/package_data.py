"""Where the manifest templates are, whether leastway runs from a checkout or from an installed package.

Invariant: there is one set of templates, `templates/` at the root of the checkout; a wheel carries a copy of it inside
this package, and nothing else looks for them.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

FOLDER = "templates"


def templates_root() -> Traversable:
    """The folder with the built-in templates: the one in the package, else the one in the checkout.

    Raises FileNotFoundError when there is neither, which means that the installation is broken.
    """
    for root in (files("synthesizer").joinpath(FOLDER), Path(__file__).resolve().parent.parent / FOLDER):
        if root.is_dir():
            return root
    raise FileNotFoundError(f"no {FOLDER} folder in the installed package; reinstall leastway")

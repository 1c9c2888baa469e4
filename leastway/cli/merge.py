"""`leastway merge`: the parts of a pattern store become one.

Invariant: what the store holds is the same before, during and after, wherever it is stopped.
"""

from __future__ import annotations

import click

from collector import store
from leastway.cli.options import not_empty
from leastway.cli.output import counted, tell


@click.command("merge")
@click.argument("place", metavar="STORE", callback=not_empty)
def command(place: str) -> None:
    """Merge the parts of a pattern store into one.

    STORE is a folder or an fsspec URL. Collectors may go on writing to it meanwhile; `leastway observe` does this by
    itself now and then.

    \b
    leastway merge patterns
    """
    parts = store.merge(place)
    tell(f"{counted(parts, 'part')} merged into one" if parts > 1 else "nothing to merge")

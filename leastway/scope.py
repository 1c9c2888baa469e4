"""The namespaces that an observation covers: only those that were asked for, if a collector was told to filter.

Invariant: a filtered observation neither writes nor measures policies of a namespace whose traffic was not asked for.
"""

from __future__ import annotations

import msgspec

from collector.errors import SourceError
from collector.quality import Quality
from synthesizer.options import Options


def within(options: Options, quality: Quality) -> Options:
    """The options, for namespaces in scope only. Raises SourceError if that leaves none."""
    scope = quality.scope
    if not scope:
        return options
    wanted = tuple(sorted(namespace for namespace in scope if options.wants(namespace)))
    if not wanted:
        hint = f"only flows of {', '.join(sorted(scope))} were asked for; name one of these with --namespace"
        raise SourceError("nothing was observed of the namespaces that are wanted", hint=hint)
    return msgspec.structs.replace(options, namespaces=wanted)


def sentence(quality: Quality) -> str:
    """What the scope means for the policies, "" if there is none."""
    if not quality.scope:
        return ""
    return (
        f"Only flows of the namespaces {', '.join(sorted(quality.scope))} were asked for: no other namespace gets a "
        "policy, and what others do among themselves is unknown."
    )

"""For which namespaces an observation may speak: those that were asked for, where a collector was told to filter.

Invariant: a filtered observation writes and measures policies of no namespace whose other traffic it did not ask for.
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

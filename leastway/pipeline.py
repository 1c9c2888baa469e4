"""The only wiring of collect → synthesise → verify → write.

Invariant: nothing is written that was not judged first, and everything that is written depends on inputs and options only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from collector.errors import SourceError
from collector.patterns import Patterns
from collector.reading import Progress, Reading, read
from leastway import evidence, observation
from leastway.verify.judge import Judge
from leastway.verify.proof import prove
from synthesizer import Synthesis, synthesize
from synthesizer import inventory as kubernetes
from synthesizer.inventory import Inventory
from synthesizer.options import Declared, Mesh, Options
from synthesizer.render import Renderer
from synthesizer.workloads import Workloads

REPORT = "leastway.json"
REVIEW = "REVIEW.md"


class Run(msgspec.Struct):
    """All that came of one run. `files` maps paths below the output folder to their text."""

    reading: Reading
    inventory: Inventory
    options: Options
    synthesis: Synthesis
    proof: dict[str, Any]
    files: dict[str, str]

    @property
    def sound(self) -> bool:
        """Whether the written policies allow every legitimate observed connection."""
        return bool(self.proof["sound"])


def generate(
    inputs: Sequence[str],
    inventories: Sequence[str],
    options: Options,
    *,
    mesh: Mesh | None = None,
    templates: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Captures in, judged policies out; writes nothing.

    `mesh` None lets the sources decide (see `detected_mesh`). Raises SourceError, InventoryError or RenderError.
    """
    reading = read(inputs, progress)
    inventory = kubernetes.load(inventories) if inventories else Inventory.empty()
    options = msgspec.structs.replace(options, mesh=mesh or detected_mesh(reading.patterns))
    synthesis = synthesize(reading.patterns, inventory, options, Renderer(templates))
    judge = Judge(
        observation.world(inventory, synthesis.workloads, options),
        [manifest.document for manifest in synthesis.manifests],
        cni=options.cni,
        mesh=options.mesh,
        trust_domain=options.trust_domain,
    )
    proof = prove(judge, observation.observed(synthesis.decisions, options))
    run = Run(reading, inventory, options, synthesis, proof, {})
    run.files = {manifest.path: manifest.text for manifest in synthesis.manifests}
    run.files[REPORT] = json.dumps(evidence.report(run), indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    run.files[REVIEW] = evidence.review_page(run)
    return run


def detected_mesh(patterns: Patterns) -> Mesh:
    """The mesh that the sources give away: ztunnel logs mean ambient, Envoy's mean sidecars, flows alone mean none."""
    origins = {origin for origin, records in patterns.quality.records.items() if records} - {"hubble"}
    if not origins:
        return "none"
    return "ambient" if "ztunnel" in origins else "sidecar"


def declared(path: str) -> tuple[Declared, ...]:
    """Read a file of declared intents: a YAML or JSON list of `from`, `to`, `port`, and optionally `protocol`, `because`.

    Raises SourceError that says which entry is wrong and how.
    """
    try:
        return msgspec.yaml.decode(Path(path).read_bytes(), type=tuple[Declared, ...])
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=path, hint="check the path") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise SourceError(
            f"not a list of declared intents: {str(error)[:200]}", where=path, hint="each entry needs from, to and port"
        ) from error


__all__ = ["Run", "Workloads", "declared", "detected_mesh", "generate"]

"""The only wiring of collect → synthesise → verify → write.

Invariant: everything that is written was judged first, and depends only on inputs and options.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from collector.beside import MANY, beside, shared
from collector.errors import SourceError
from collector.patterns import Patterns
from collector.reading import Engine, Progress, Reading, read
from leastway import evidence, observation, scope
from leastway.export.folder import REPORT, REVIEW
from leastway.verify import proof
from leastway.verify.judge import Judge
from leastway.verify.policies import PolicySet
from leastway.verify.soundness import Observed
from leastway.verify.world import World
from synthesizer import Synthesis, synthesize
from synthesizer import inventory as kubernetes
from synthesizer.decisions import decide
from synthesizer.inventory import Inventory
from synthesizer.lines import conclude, lines
from synthesizer.options import TRUST_DOMAIN, Declared, Mesh, Options
from synthesizer.render import Renderer
from synthesizer.workloads import Workloads


class Run(msgspec.Struct):
    """The result of one run; `files` by their path in the output."""

    reading: Reading
    inventory: Inventory
    options: Options
    synthesis: Synthesis
    findings: list[str] = []
    proof: dict[str, Any] = {}
    files: dict[str, str] = {}

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
    engine: Engine | None = None,
) -> Run:
    """Captures in, judged policies out; writes nothing.

    With `mesh` None the sources decide (see `detected_mesh`). Raises SourceError, InventoryError or RenderError.
    """
    with collector_paused():
        return _generate(read(inputs, progress, engine), inventories, options, mesh, templates)


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector: patterns are many small objects without cycles, and it takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _generate(
    reading: Reading, inventories: Sequence[str], options: Options, mesh: Mesh | None, templates: str | None
) -> Run:
    inventory = kubernetes.load(inventories) if inventories else Inventory.empty()
    options = _completed(options, inventory, reading, mesh or detected_mesh(reading.patterns))
    synthesis = synthesize(reading.patterns, inventory, options, Renderer(templates), each=shared)
    run = Run(reading, inventory, options, synthesis)
    told = beside(partial(evidence.told, run), worth=len(synthesis.manifests) >= MANY)
    judge = Judge(
        observation.world(inventory, synthesis.workloads, synthesis.decisions, options),
        [manifest.document for manifest in synthesis.manifests],
        cni=options.cni,
        mesh=options.mesh,
        trust_domain=options.trust_domain,
    )
    run.proof = proof.prove(judge, observation.observed(synthesis.decisions, inventory, options), beside=beside)
    behind, run.findings, review = told()
    run.files = {manifest.path: manifest.text for manifest in synthesis.manifests}
    run.files[REPORT] = evidence.report(run, behind)
    run.files[REVIEW] = review
    return run


def _completed(options: Options, inventory: Inventory, reading: Reading, mesh: Mesh) -> Options:
    """The options, completed by the mesh, its trust domain, and the scope of the observation."""
    domain = options.trust_domain or inventory.trust_domain or TRUST_DOMAIN
    options = msgspec.structs.replace(options, mesh=mesh, trust_domain=domain)
    return scope.within(options, reading.patterns.quality)


def detected_mesh(patterns: Patterns) -> Mesh:
    """The mesh, judged by the sources: ztunnel logs mean ambient, Envoy's mean sidecar, flows alone mean none."""
    origins = {origin for origin, records in patterns.quality.records.items() if records} - {"hubble"}
    if not origins:
        return "none"
    return "ambient" if "ztunnel" in origins else "sidecar"


def declared(path: str) -> tuple[Declared, ...]:
    """Read a file of declared intents: a YAML or JSON list of `from`, `to`, `port`, and optional `protocol`, `because`.

    Raises a SourceError that says which entry is wrong, and how.
    """
    try:
        return msgspec.yaml.decode(Path(path).read_bytes(), type=tuple[Declared, ...])
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=path, hint="check the path") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise SourceError(
            f"not a list of declared intents: {str(error)[:200]}", where=path, hint="each entry needs from, to and port"
        ) from error


class Observation(msgspec.Struct):
    """An observation as the judge replays it, before any policy."""

    reading: Reading
    inventory: Inventory
    options: Options
    world: World
    observed: list[Observed]

    def judge(self, policies: PolicySet) -> Judge:
        """The judge of policies in this world and profile."""
        chosen = self.options
        return Judge(self.world, policies, cni=chosen.cni, mesh=chosen.mesh, trust_domain=chosen.trust_domain)


def observe(
    inputs: Sequence[str],
    inventories: Sequence[str],
    options: Options,
    *,
    mesh: Mesh | None = None,
    everywhere: bool = False,
    progress: Progress | None = None,
) -> Observation:
    """Captures in, what to replay out. `everywhere`: in the system namespaces too. Raises as `generate` does."""
    reading = read(inputs, progress)
    inventory = kubernetes.load(inventories) if inventories else Inventory.empty()
    return observation_of(reading, inventory, options, mesh or detected_mesh(reading.patterns), everywhere)


def observation_of(
    reading: Reading, inventory: Inventory, options: Options, mesh: Mesh, everywhere: bool
) -> Observation:
    """What of a reading is legitimate, decided as in `generate`."""
    workloads = Workloads(reading.patterns, inventory, mesh)
    namespaces = tuple(sorted({w.namespace for w in workloads.all})) if everywhere else options.namespaces
    options = _completed(msgspec.structs.replace(options, namespaces=namespaces), inventory, reading, mesh)
    flows = "hubble" in reading.patterns.quality.records
    found = lines(conclude(reading.patterns, workloads), reading.patterns.sightings, workloads, inventory)
    decided = decide(found, workloads, options, network=flows)
    world = observation.world(inventory, workloads, decided, options)
    return Observation(reading, inventory, options, world, observation.observed(decided, inventory, options))


def verify(policies: PolicySet, observed: Observation) -> dict[str, Any]:
    """The proof of any policies against an observation: the object that `leastway.json` holds under `proof`."""
    return proof.prove(observed.judge(policies), observed.observed, profiles=True, beside=beside)


__all__ = ["Observation", "Run", "declared", "detected_mesh", "generate", "observation_of", "observe", "verify"]

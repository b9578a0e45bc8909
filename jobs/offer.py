"""Offer: which workflows can run on this machine now, and what the others lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from ..workflows import (
    Binding,
    Catalog,
    Takes,
    TextInputs,
    TextInputsOf,
    Workflow,
    file_faults,
    inputs_of,
    names_in,
    narrow,
)
from .errors import (
    DiskFull,
    NotReady,
    RequestRefused,
    UnhealthyWorkflow,
    UnknownWorkflow,
    WorkflowInvalid,
)
from .health import Component, State, unless
from .private_files import private_file_faults
from .prompt import Lack
from .threads import repeat_in_daemon

REFRESH_SECONDS = 2.0
UNREAD = "The definition of the workflow cannot be read now. GET /health says why."


@dataclass(frozen=True)
class Offered:
    """A workflow by its slug. Without a `workflow` its definition is broken."""

    slug: str
    workflow: Workflow | None
    problems: tuple[str, ...]

    @property
    def is_healthy(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class _Narrowed:
    """A definition as the machine takes it, and what that was made from."""

    definition: Workflow
    takes: Mapping[Binding, Takes]
    names: frozenset[str]
    workflow: Workflow
    faults: tuple[str, ...]

    @classmethod
    def of(
        cls, definition: Workflow, takes: Mapping[Binding, Takes], names: frozenset[str]
    ) -> _Narrowed:
        workflow, faults = narrow(definition, takes)
        if names != workflow.names:
            workflow = replace(workflow, names=names)
        return cls(definition, takes, names, workflow, faults)

    def still_holds(
        self, definition: Workflow, takes: Mapping[Binding, Takes], names: frozenset[str]
    ) -> bool:
        return self.definition is definition and (self.takes, self.names) == (takes, names)


@dataclass(frozen=True)
class _Found:
    """A snapshot, replaced as a whole, so that readers never see half of an update."""

    offered: Mapping[str, Offered]
    narrowed: Mapping[str, _Narrowed]


class Offer:
    """The catalog held against a machine, as it was when `refresh` was called last.

    `lacks` tells what a graph needs and the machine has not, `takes` what the inputs of a node
    class take there, `text_inputs` which of them take names, of files above all; they are called
    beside the loop. A machine that runs nothing itself lacks nothing and takes everything.
    """

    def __init__(
        self,
        catalog: Catalog,
        lacks: Callable[[dict[str, Any]], list[Lack]] = lambda graph: [],
        takes: Callable[[str], Mapping[str, Takes]] = lambda class_type: {},
        text_inputs: TextInputsOf = lambda class_type: TextInputs(),
        *,
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        self._text_inputs = text_inputs
        self._catalog = catalog
        self._lacks = lacks
        self._takes = takes
        self._refresh_seconds = refresh_seconds
        self._found = _Found({}, {})
        self._has_looked = False

    def refresh(self) -> None:
        """Look at the definitions and at the machine. Blocks while a folder is slow.

        Raises OSError if the machine cannot be looked at for a while; all stays as it was.
        """
        self._catalog.refresh()
        text_inputs = cache(self._text_inputs)
        narrowed = self._narrowed(text_inputs)
        healthy_or_lacking = {
            slug: Offered(slug, one.workflow, self._problems(one, text_inputs))
            for slug, one in narrowed.items()
        }
        broken = {
            slug: Offered(slug, None, (reason,)) for slug, reason in self._catalog.broken.items()
        }
        self._found = _Found(dict(sorted({**healthy_or_lacking, **broken}.items())), narrowed)
        self._has_looked = True

    async def keep_fresh(self) -> None:
        """Refresh every few seconds, in a thread, until cancelled."""
        await repeat_in_daemon("unified-api-offer", self.refresh, seconds=self._refresh_seconds)

    def all(self) -> list[Offered]:
        """Healthy and unhealthy, by slug."""
        return list(self._found.offered.values())

    def find(self, slug: str) -> Offered:
        """Raises UnknownWorkflow, or NotReady while it cannot be told whether there is one."""
        try:
            return self._found.offered[slug]
        except KeyError:
            raise self._unknown(slug) from None

    def healthy(self, slug: str) -> Workflow:
        """Raises UnknownWorkflow, NotReady or, with what is missing, UnhealthyWorkflow."""
        offered = self.find(slug)
        if offered.workflow is None or offered.problems:
            raise UnhealthyWorkflow(
                f"The workflow {slug!r} cannot run on this machine: {'; '.join(offered.problems)}"
            )
        return offered.workflow

    def definition(self, slug: str) -> Workflow:
        """For a job accepted earlier, healthy or not. Raises WorkflowInvalid or DiskFull."""
        offered = self._found.offered.get(slug)
        if offered is None or offered.workflow is None:
            if self._is_uncertain(slug):
                raise DiskFull(UNREAD)
            raise WorkflowInvalid(f"The workflow {slug!r} is no longer defined on this machine.")
        return offered.workflow

    def as_defined(self, slug: str) -> Workflow:
        """As other machines may take it. Raises UnknownWorkflow or NotReady."""
        try:
            return self._found.narrowed[slug].definition
        except KeyError:
            raise self._unknown(slug) from None

    @property
    def problems(self) -> tuple[str, ...]:
        """Model overrides that fit no workflow."""
        return self._catalog.problems

    @property
    def component(self) -> Component:
        """How the workflows are, all of them."""
        unhealthy = [offered.slug for offered in self.all() if not offered.is_healthy]
        reason = f"cannot run here: {', '.join(unhealthy)}; GET /api/v1/workflows says why"
        return unless(reason if unhealthy else None, State.DEGRADED)

    def _unknown(self, slug: str) -> RequestRefused:
        return NotReady(UNREAD) if self._is_uncertain(slug) else UnknownWorkflow()

    def _is_uncertain(self, slug: str) -> bool:
        return not self._has_looked or self._catalog.is_uncertain(slug)

    def _narrowed(self, text_inputs: TextInputsOf) -> dict[str, _Narrowed]:
        """Only what changed is made again: judges of parameters are costly to make."""
        takes_of, narrowed = cache(self._takes), {}
        for slug, definition in self._catalog.workflows.items():
            made_of = definition, _takes(definition, takes_of), names_in(definition, text_inputs)
            known = self._found.narrowed.get(slug)
            holds = known is not None and known.still_holds(*made_of)
            narrowed[slug] = known if known and holds else _Narrowed.of(*made_of)
        return narrowed

    def _problems(self, narrowed: _Narrowed, text_inputs: TextInputsOf) -> tuple[str, ...]:
        definition = narrowed.definition
        return (
            *self._missing(definition),
            *narrowed.faults,
            *file_faults(definition, text_inputs),
            *private_file_faults(definition),
        )

    def _missing(self, workflow: Workflow) -> Iterator[str]:
        bound = {(b.node, b.input) for places in workflow.bindings.values() for b in places}
        for lack in self._lacks(workflow.graph):
            if (lack.node_id, lack.input) not in bound:
                yield _sentence(workflow, lack)


def _takes(
    workflow: Workflow, takes_of: Callable[[str], Mapping[str, Takes]]
) -> dict[Binding, Takes]:
    """What the inputs take that the workflow's parameters go to."""
    places = {place: takes_of(place.class_type) for _, place in inputs_of(workflow)}
    return {place: takes[place.input] for place, takes in places.items() if place.input in takes}


def _sentence(workflow: Workflow, lack: Lack) -> str:
    for slot in workflow.models.values():
        binding = slot.binding
        if (binding.node, binding.input) == (lack.node_id, lack.input):
            file = workflow.graph[binding.node]["inputs"][binding.input]
            source = f" (from {slot.source})" if slot.source else ""
            return f"model file {file} is missing: put it into models/{slot.folder}{source}"
    return f"node {lack.node_id}: {lack.text}"

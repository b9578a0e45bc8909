"""Finds the definitions, shipped and the user's own, and reads again what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from .definition import FILES, DefinitionError, read_definition
from .workflow import Workflow

LIBRARY = Path(__file__).parent / "library"

Overrides = Mapping[str, Mapping[str, str]]
Signature = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class _Place:
    """Where a definition lies, and the state of its files."""

    folder: Path
    signature: Signature


@dataclass(frozen=True)
class _Shelf:
    """All that is known at one moment; replaced whole, so that nobody sees half of it."""

    places: Mapping[str, _Place]
    unreadable: tuple[str, ...]
    read: Mapping[str, Workflow | str]

    @property
    def workflows(self) -> dict[str, Workflow]:
        return {slug: w for slug, w in self.read.items() if isinstance(w, Workflow)}

    @property
    def broken(self) -> dict[str, str]:
        return {slug: fault for slug, fault in self.read.items() if isinstance(fault, str)}


class Catalog:
    """The definitions below some folders; a later folder wins over an earlier one.

    A definition that cannot be used harms no other: it is listed under `broken`.
    `models` are the operator's file names: slug -> slot -> file name.
    """

    def __init__(self, folders: Sequence[Path], models: Overrides = MappingProxyType({})) -> None:
        self._folders = tuple(folders)
        self._models = models
        self._shelf = _Shelf({}, (), {})
        self.refresh()

    def refresh(self) -> bool:
        """Reads what changed on disk since the last time; whether anything did."""
        places, unreadable = _survey(self._folders)
        old = self._shelf
        if (places, unreadable) == (old.places, old.unreadable):
            return False
        read = {
            slug: old.read[slug] if place == old.places.get(slug) else self._read(slug, place)
            for slug, place in places.items()
        }
        self._shelf = _Shelf(places, unreadable, read)
        return True

    def get(self, slug: str) -> Workflow | None:
        found = self._shelf.read.get(slug)
        return found if isinstance(found, Workflow) else None

    @property
    def workflows(self) -> Mapping[str, Workflow]:
        return self._shelf.workflows

    @property
    def broken(self) -> Mapping[str, str]:
        """Why a definition cannot be used, by its folder's name."""
        return self._shelf.broken

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong beside the definitions: folders and the operator's model names."""
        shelf = self._shelf
        return (*shelf.unreadable, *_misnamed(self._models, shelf))

    def _read(self, slug: str, place: _Place) -> Workflow | str:
        try:
            return read_definition(place.folder, self._models.get(slug, {}))
        except DefinitionError as error:
            return str(error)


def _survey(folders: Sequence[Path]) -> tuple[dict[str, _Place], tuple[str, ...]]:
    places: dict[str, _Place] = {}
    unreadable = []
    for folder in folders:
        try:
            places |= {place.folder.name: place for place in _places(folder)}
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable.append(f"The folder {folder.name} cannot be read: {error.strerror}.")
    return places, tuple(unreadable)


def _places(folder: Path) -> Iterator[_Place]:
    for child in sorted(folder.iterdir()):
        signature = tuple(_state(child / name) for name in FILES)
        if any(signature) and not child.name.startswith("."):
            yield _Place(child, signature)


def _state(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _misnamed(models: Overrides, shelf: _Shelf) -> Iterator[str]:
    for slug, slots in models.items():
        workflow = shelf.read.get(slug)
        if workflow is None:
            yield f"A model is set for the workflow {slug}, which does not exist."
        elif isinstance(workflow, Workflow):
            for slot in slots.keys() - workflow.models.keys():
                yield f"The workflow {slug} has no model called {slot}."

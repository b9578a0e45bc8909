"""Finds the definitions, shipped and the user's own, and reads again what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from .definition import FILES, DefinitionAway, DefinitionError, read_definition
from .files import ABSENT
from .workflow import Workflow

#: Of a definition that is to be read again at the next look: no files have this one.
UNREAD: Signature = ()
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

    A definition that cannot be used harms no other: it is listed under `broken`. What cannot be
    read for a while stays as it was read last.
    `models` are the operator's file names: slug -> slot -> file name.
    """

    def __init__(self, folders: Sequence[Path], models: Overrides = MappingProxyType({})) -> None:
        self._folders = tuple(folders)
        self._models = models
        self._shelf = _Shelf({}, (), {})
        self.refresh()

    def refresh(self) -> bool:
        """Reads what changed on disk since the last time; whether anything did."""
        old = self._shelf
        places, unreadable = _survey(self._folders, old.places)
        if (places, unreadable) == (old.places, old.unreadable):
            return False
        read: dict[str, Workflow | str] = {}
        for slug, place in places.items():
            if place == old.places.get(slug) and place.signature != UNREAD:
                read[slug] = old.read[slug]
            else:
                places[slug], read[slug] = self._read(slug, place, old.read.get(slug))
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
        return (*shelf.unreadable, *_outdated(shelf), *_misnamed(self._models, shelf))

    def is_uncertain(self, slug: str) -> bool:
        """Whether there may be a workflow of this name that could not be read."""
        shelf = self._shelf
        if (place := shelf.places.get(slug)) is None:
            return bool(shelf.unreadable)
        return place.signature == UNREAD and isinstance(shelf.read[slug], str)

    def _read(
        self, slug: str, place: _Place, known: Workflow | str | None
    ) -> tuple[_Place, Workflow | str]:
        """A definition, and what is known of its files then."""
        try:
            return place, read_definition(place.folder, self._models.get(slug, {}))
        except DefinitionAway as error:
            found = known if isinstance(known, Workflow) else str(error)
            return replace(place, signature=UNREAD), found
        except DefinitionError as error:
            return place, str(error)


def _survey(
    folders: Sequence[Path], known: Mapping[str, _Place]
) -> tuple[dict[str, _Place], tuple[str, ...]]:
    places: dict[str, _Place] = {}
    unreadable = []
    for folder in folders:
        try:
            places |= {place.folder.name: place for place in _places(folder)}
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable.append(f"The folder {folder.name} cannot be read: {error.strerror}.")
            places |= {slug: each for slug, each in known.items() if each.folder.parent == folder}
    return places, tuple(unreadable)


def _places(folder: Path) -> Iterator[_Place]:
    for child in sorted(folder.iterdir()):
        signature = tuple(_state(child / name) for name in FILES)
        if any(signature) and not child.name.startswith("."):
            yield _Place(child, signature)


def _state(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except ABSENT:
        return None
    except OSError:
        # It is there, and reading it tells what is wrong.
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


def _outdated(shelf: _Shelf) -> Iterator[str]:
    for slug in shelf.workflows:
        if shelf.places[slug].signature == UNREAD:
            yield f"The workflow {slug} is used as it was: its files cannot be read now."


def _misnamed(models: Overrides, shelf: _Shelf) -> Iterator[str]:
    for slug, slots in models.items():
        workflow = shelf.read.get(slug)
        if workflow is None:
            yield f"A model is set for the workflow {slug}, which does not exist."
        elif isinstance(workflow, Workflow):
            for slot in slots.keys() - workflow.models.keys():
                yield f"The workflow {slug} has no model called {slot}."

"""Reads one folder, workflow.json and graph.json, and makes a Workflow of it or says why not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from .agreement import definition_faults, graph_faults, value_faults
from .files import is_passing
from .workflow import Binding, Graph, ModelSlot, Phrases, Workflow

FILES = ("workflow.json", "graph.json")
FORMAT = Path(__file__).parent / "library" / "definition.schema.json"

SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
RESERVED = frozenset(
    {"jobs", "workflows", "health", "ready", "docs", "dashboard", "metrics", "openapi.json"}
)
MOST_FAULTS = 10
LONGEST_FAULT = 300
#: Of a whole number.
MOST_DIGITS = 400
#: Of lists and objects in one another: what walks through them needs a frame for each.
MOST_LEVELS = 64


class _NotJson(ValueError):
    """Something that Python reads and JSON does not know."""


class DefinitionError(Exception):
    """The workflow definition cannot be used."""


class DefinitionAway(DefinitionError):
    """The files of the workflow definition cannot be read for a while."""


def read_definition(folder: Path, models: Mapping[str, str]) -> Workflow:
    """The workflow in a folder, with the operator's file names for its models."""
    _refuse(_slug_faults(folder.name))
    texts = [_bytes(folder / name) for name in FILES]
    content, graph = (_parsed(name, text) for name, text in zip(FILES, texts, strict=True))
    _refuse(_format_faults(content))
    _refuse(graph_faults(graph))
    _refuse(definition_faults(content, graph))
    workflow = _workflow(folder.name, content, graph, models, _revision(texts, models))
    _refuse(value_faults(workflow))
    return workflow


def _refuse(faults: Iterable[str]) -> None:
    told = " ".join(islice(faults, MOST_FAULTS))
    if told:
        raise DefinitionError(told)


def _slug_faults(slug: str) -> Iterator[str]:
    if slug in RESERVED:
        yield f"The folder name {slug} is reserved for the service itself."
    elif not SLUG.fullmatch(slug):
        yield (
            f"The folder name {slug} cannot be part of a URL: use at most 63 lower-case"
            " letters, digits and hyphens, and begin with a letter or digit."
        )


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise DefinitionError(f"{file.name} is missing.") from None
    except OSError as error:
        kind = DefinitionAway if is_passing(error) else DefinitionError
        raise kind(f"{file.name} cannot be read: {error.strerror}.") from error


def _parsed(name: str, content: bytes) -> Any:
    """JSON that can be written again: no NaN, no infinity, no lone surrogate, no double key."""
    try:
        text = content.decode("utf-8-sig")
        value = json.loads(
            text, parse_constant=_no_number, parse_int=_whole, object_pairs_hook=_object
        )
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        _check_depth(value)
    except UnicodeDecodeError as error:
        raise DefinitionError(f"{name} is not encoded as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise DefinitionError(f"{name} is not valid JSON: {_reason(error)}.") from error
    return value


def _check_depth(value: Any, levels: int = MOST_LEVELS) -> None:
    """Raises RecursionError."""
    if not isinstance(value, dict | list):
        return
    if not levels:
        raise RecursionError
    for each in value.values() if isinstance(value, dict) else value:
        _check_depth(each, levels - 1)


def _reason(error: ValueError | RecursionError) -> str:
    """In words of our own: the interpreter's are for whoever wrote the program."""
    if isinstance(error, json.JSONDecodeError):
        return f"syntax error in line {error.lineno}, column {error.colno}"
    if isinstance(error, _NotJson):
        return str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeEncodeError):
        return "it has a lone surrogate"
    return "it has a number that is too large"


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise _NotJson(f"a number in it has more than {MOST_DIGITS} digits")
    return int(digits)


def _no_number(constant: str) -> None:
    raise _NotJson(f"{constant} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _NotJson(f"the key {twice} stands twice in one object")
    return value


@cache
def _format() -> Draft202012Validator:
    schema = json.loads(FORMAT.read_text(encoding="utf-8"))
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def _format_faults(content: Any) -> Iterator[str]:
    for error in _format().iter_errors(content):
        yield f"workflow.json: {_where(error)}{error.message[:LONGEST_FAULT]}."


def _where(error: ValidationError) -> str:
    path = "/".join(map(str, error.absolute_path))
    return f"{path}: " if path else ""


def _revision(texts: Iterable[bytes], models: Mapping[str, str]) -> str:
    overrides = json.dumps(models, sort_keys=True).encode()
    digests = [sha256(part).digest() for part in (*texts, overrides)]
    return sha256(b"".join(digests)).hexdigest()[:12]


def _workflow(
    slug: str,
    content: Mapping[str, Any],
    graph: Graph,
    overrides: Mapping[str, str],
    revision: str,
) -> Workflow:
    slots = {name: _slot(slot) for name, slot in content.get("models", {}).items()}
    return Workflow(
        slug=slug,
        title=content["title"],
        description=content["description"],
        schema=content["parameters"],
        graph=_with_models(graph, slots, overrides),
        bindings={n: tuple(map(_binding, b)) for n, b in content["bindings"].items()},
        images=_images(content),
        phrases=_phrases(content["phrases"]) if "phrases" in content else None,
        outputs={name: place["node"] for name, place in content["outputs"].items()},
        extension=content.get("extension", "png"),
        models=slots,
        warmup=content.get("warmup"),
        revision=revision,
        **content.get("limits", {}),
    )


def _binding(place: Mapping[str, str]) -> Binding:
    return Binding(place["node"], place["class_type"], place["input"])


def _slot(slot: Mapping[str, str]) -> ModelSlot:
    return ModelSlot(_binding(slot), slot["folder"], slot.get("source"))


def _with_models(
    graph: Graph, slots: Mapping[str, ModelSlot], overrides: Mapping[str, str]
) -> Graph:
    changed = deepcopy(graph)
    for name in slots.keys() & overrides.keys():
        binding = slots[name].binding
        changed[binding.node]["inputs"][binding.input] = overrides[name]
    return changed


def _images(content: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    required = content["parameters"].get("required", ())
    return {
        name: () if name in required else tuple(image.get("disconnect", ()))
        for name, image in content.get("images", {}).items()
    }


def _phrases(content: Mapping[str, Any]) -> Phrases:
    parts = tuple((part["parameter"], part["says"]) for part in content["parts"])
    return Phrases(content["into"], content.get("separator", " "), parts, content["otherwise"])

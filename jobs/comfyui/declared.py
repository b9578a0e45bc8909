"""What a node class declares of its inputs, in words of our own. Where classes are, others know."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from ...workflows import Takes, TextInputs, is_passing
from ..counted_log import CountedLog
from ..prompt import Lack
from .file_inputs import IsFile, names_file

#: Of the inputs that hold a value; the words of JSON Schema for them.
TYPES = {"INT": "integer", "FLOAT": "number", "STRING": "string", "BOOLEAN": "boolean"}


def lacks_of(
    node_id: str, node: Mapping[str, Any], node_class: Any, faults: CountedLog
) -> list[Lack]:
    """What is missing for a node of a graph to run. Without a class, that is the class.

    Raises OSError if its folders cannot be listed for a while.
    """
    name = node["class_type"]
    if node_class is None:
        return [Lack(node_id, None, f"node class {name} is not installed in this ComfyUI")]
    try:
        required, optional = _declared(node_class)
    except Exception as error:  # noqa: BLE001 - it is logged
        _report(name, error, faults)
        return [Lack(node_id, None, f"node class {name} is broken; ComfyUI's log has the reason")]
    every = {**required, **optional}
    absent = [
        Lack(node_id, key, f"{name} of this ComfyUI needs an input {key!r}, which the graph lacks")
        for key, kind in required.items()
        if key not in node["inputs"] and not _is_dynamic(kind)
    ]
    unknown = [
        Lack(node_id, key, f"{name} of this ComfyUI does not offer {value!r} for {key!r}")
        for key, value in node["inputs"].items()
        if not _offers(every.get(key), value)
    ]
    return absent + unknown


def inputs_judged_for(name: str, node_class: Any, faults: CountedLog) -> dict[str, Takes]:
    """What the inputs of a class take, but for those that the node judges by itself.

    Raises OSError if its folders cannot be listed for a while.
    """
    try:
        required, optional = _declared(node_class)
        judges_itself = _judged_by(node_class)
    except Exception as error:  # noqa: BLE001 - it is logged
        _report(name, error, faults)
        return {}
    every = {**required, **optional}
    return {key: _takes(*kind) for key, kind in every.items() if not judges_itself(key)}


def text_inputs_of(name: str, node_class: Any, faults: CountedLog, is_file: IsFile) -> TextInputs:
    """Which inputs of a class take the names of files, and which take names at all."""
    try:
        required, optional = _declared(node_class)
    except Exception as error:  # noqa: BLE001 - it is logged
        # It is unhealthy: that it is broken is told where its inputs are checked.
        _report(name, error, faults)
        return TextInputs()
    every = {**required, **optional}
    files = {key for key, kind in every.items() if _names_file(key, kind, is_file)}
    lists = {key for key, kind in every.items() if kind[0] == "COMBO" or isinstance(kind[0], list)}
    return TextInputs(frozenset(files), frozenset(files | lists))


def _names_file(key: str, declared: tuple[Any, dict[str, Any]], is_file: IsFile) -> bool:
    return names_file(key, *declared, _choices(*declared), is_file)


def _report(name: str, error: Exception, faults: CountedLog) -> None:
    """Log why a class cannot tell its inputs, which it is asked often."""
    if isinstance(error, OSError) and is_passing(error):
        raise error
    faults.log(logging.ERROR, "node class %s could not tell its inputs", name, error=error)


def _declared(node_class: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs of a node class, required and optional, each as its kind and details."""
    declared = node_class.INPUT_TYPES()
    required, optional = (
        {name: (kind[0], _details(kind)) for name, kind in declared.get(part, {}).items()}
        for part in ("required", "optional")
    )
    return required, optional


def _details(kind: Any) -> dict[str, Any]:
    return kind[1] if len(kind) > 1 and isinstance(kind[1], dict) else {}


def _is_dynamic(kind: Any) -> bool:
    """Inputs that grow or change with others are named differently in a graph."""
    return isinstance(kind[0], str) and kind[0].startswith("COMFY_")


def _offers(kind: Any, value: Any) -> bool:
    """False only for a value that is not among the choices of its input."""
    choices = None if kind is None or isinstance(value, list) else _choices(*kind)
    return choices is None or value in choices


def _choices(kind: Any, details: dict[str, Any]) -> list[Any] | None:
    """The choices of an input in either spelling; None if it has none, or they are not known."""
    choices = details.get("options") if kind == "COMBO" else kind
    return choices if isinstance(choices, list) else None


def _judged_by(node_class: Any) -> Callable[[str], bool]:
    """Which inputs a node judges itself: ComfyUI does not hold it to what it declares of them."""
    judge = _judge_of(node_class)
    if judge is None:
        return lambda name: False
    signature = inspect.getfullargspec(judge)
    return lambda name: signature.varkw is not None or name in signature.args


def _judge_of(node_class: Any) -> Any:
    if not hasattr(node_class, "GET_BASE_CLASS"):
        return getattr(node_class, "VALIDATE_INPUTS", None)
    # Nodes of the newer kind inherit a judge that judges nothing.
    judge, inherited = node_class.validate_inputs, node_class.GET_BASE_CLASS().validate_inputs
    return None if judge.__func__ is inherited.__func__ else judge


def _takes(kind: Any, details: dict[str, Any]) -> Takes:
    # Steps only guide the editor: ComfyUI takes what lies between them.
    choices = _choices(kind, details)
    return Takes(
        type=TYPES.get(str(kind)) if choices is None else None,
        choices=None if choices is None else tuple(choices),
        minimum=_bound(details.get("min"), -inf),
        maximum=_bound(details.get("max"), inf),
    )


def _bound(value: Any, unbounded: float) -> float:
    """Custom nodes say anything here, NaN too."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and -inf < value < inf else unbounded

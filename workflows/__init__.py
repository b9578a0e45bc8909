"""What can be run. Pure: no network, no ComfyUI, no clock, no environment."""

from .catalog import LIBRARY, Catalog
from .definition import DefinitionError
from .files import ABSENT, is_file, is_passing, is_there
from .narrow import Takes, inputs_of, narrow
from .parameters import Violation
from .render import render
from .text_inputs import TextInputs, TextInputsOf, file_faults, names_in
from .workflow import Binding, ModelSlot, Phrases, Workflow

__all__ = [
    "ABSENT",
    "LIBRARY",
    "Binding",
    "Catalog",
    "DefinitionError",
    "ModelSlot",
    "Phrases",
    "Takes",
    "TextInputs",
    "TextInputsOf",
    "Violation",
    "Workflow",
    "file_faults",
    "inputs_of",
    "is_file",
    "is_passing",
    "is_there",
    "names_in",
    "narrow",
    "render",
]

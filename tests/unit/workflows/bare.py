"""A workflow with nothing in it but what a test is about."""

from unified_api.workflows import Workflow

NOTHING = {
    "slug": "test",
    "title": "Test",
    "description": "A test.",
    "images": {},
    "phrases": None,
    "extension": "png",
    "models": {},
    "warmup": None,
    "revision": "0" * 12,
}


def bare(properties, *, required=(), **given):
    """`given` are fields of Workflow: graph, bindings and outputs at least."""
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }
    return Workflow(**{**NOTHING, "schema": schema, **given})

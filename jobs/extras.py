"""Extras: what every workflow takes beside its own parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails, PydanticCustomError
from yarl import URL

from ..workflows import Violation, Workflow
from .errors import InvalidParameters
from .job import Delivery, Event, Format, Job, Priority, Value, Webhook

MAX_METADATA_BYTES = 16 * 1024
LONGEST_URL = 2048

#: Of the fields that take one of some words.
CHOICES: dict[str, tuple[str, ...]] = {
    "output_format": get_args(Format),
    "priority": get_args(Priority),
    "webhook_events": get_args(Event),
}
SENTENCES = {
    "dict_type": "it must be an object",
    "greater_than_equal": "it must be at least {ge}",
    "int_type": "it must be a whole number",
    "less_than_equal": "it must be at most {le}",
    "list_type": "it must be a list",
    "literal_error": "it must be {expected}",
    "string_too_long": "it must have a length of at most {max_length}",
    "string_type": "it must be text",
    "string_unicode": "it must be valid Unicode, without lone surrogates",
    "unfit": "{sentence}",
}
#: For what pydantic may find besides, in words of its own.
UNFIT = "it does not have the form that is expected"
#: One flat object, so that it can go wherever a job is told of.
METADATA = {
    "type": "object",
    "description": f"Yours; it comes back with the job. At most {MAX_METADATA_BYTES} bytes.",
    "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
}


def _check_metadata(value: dict[str, Any]) -> dict[str, Any]:
    if not all(isinstance(each, str | int | float | None) for each in value.values()):
        raise _fault("its values must be texts, numbers, true, false or null")
    try:
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
    except ValueError:
        raise _fault("its numbers must be finite and its texts valid Unicode") from None
    if size > MAX_METADATA_BYTES:
        raise _fault(f"it may have {MAX_METADATA_BYTES} bytes as JSON")
    return value


def _check_url(value: str) -> str:
    try:
        url = URL(value)
        is_fit = url.scheme in ("http", "https") and bool(url.host)
    except ValueError:
        is_fit = False
    if not is_fit or not value.isprintable() or " " in value:
        raise _fault("it must be an http or https URL")
    return value


def _fault(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("unfit", "{sentence}", {"sentence": sentence})


Metadata = Annotated[dict[str, Any], AfterValidator(_check_metadata), WithJsonSchema(METADATA)]
WebAddress = Annotated[str, Field(max_length=LONGEST_URL), AfterValidator(_check_url)]


class Extras(Value):
    """As they are spelt in a request."""

    output_format: Format | None = Field(None, description="How picture results are written.")
    quality: int = Field(90, ge=1, le=100, description="Of JPEG and WebP.")
    metadata: Metadata = Field({})
    priority: Priority = Field("normal", description="`high` goes before all that is not.")
    webhook_url: WebAddress | None = Field(None, description="Who is told of the job.")
    webhook_events: list[Event] = Field([], description="Of what; left out, of everything.")

    @property
    def delivery(self) -> Delivery:
        return Delivery(format=self.output_format, quality=self.quality)

    @property
    def webhook(self) -> Webhook | None:
        if self.webhook_url is None:
            return None
        return Webhook(url=self.webhook_url, events=tuple(dict.fromkeys(self.webhook_events)))


def split(workflow: Workflow, body: Mapping[str, Any]) -> tuple[dict[str, Any], Extras]:
    """The workflow's own parameters, and what is common to all. Raises InvalidParameters."""
    names = Extras.model_fields.keys() - workflow.schema["properties"].keys()
    given = {name: body[name] for name in names if body.get(name) is not None}
    try:
        extras = Extras.model_validate(given, strict=True)
    except ValidationError as error:
        raise InvalidParameters(_violations(error)) from None
    if extras.webhook_events and not extras.webhook_url:
        raise InvalidParameters([_violation("webhook_events", "it needs a webhook_url")])
    return {name: value for name, value in body.items() if name not in names}, extras


def request_body(job: Job) -> dict[str, Any]:
    """A request that makes the same job, whoever gets it. When it is to run is told beside."""
    webhook = job.webhook
    extras = Extras(
        output_format=job.delivery.format,
        quality=job.delivery.quality,
        metadata=job.metadata,
        webhook_url=webhook.url if webhook else None,
        webhook_events=list(webhook.events) if webhook else [],
    )
    return {**job.parameters, **extras.model_dump(exclude_defaults=True)}


def _violations(error: ValidationError) -> list[Violation]:
    """One for each field."""
    faults = {str(fault["loc"][0]): fault for fault in reversed(error.errors())}
    return [
        _violation(name, _sentence(faults[name]), CHOICES.get(name, ()))
        for name in Extras.model_fields
        if name in faults
    ]


def _sentence(fault: ErrorDetails) -> str:
    """What pydantic found, in the words of the other refusals."""
    return SENTENCES.get(fault["type"], UNFIT).format(**fault.get("ctx", {}))


def _violation(name: str, sentence: str, allowed: tuple[str, ...] = ()) -> Violation:
    return Violation(name, f"/{name}", f"{name}: {sentence}.", allowed)

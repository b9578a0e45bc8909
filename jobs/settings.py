"""The only reader of the environment. A wrong setting is reported and its default used."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .egress.guard import Place, deny_entry
from .keys import Key
from .readable import DEFAULT_FOLDER, DEPOSIT, Prefix, Readable
from .signature import Secret

#: A slip of the pen must not open a door: what these become when they are wrong. (Nobody holds
#: a key whose hash is all zeros.)
STRICT = {
    "UNIFIED_API_KEYS": f"unreadable:read:{'0' * 64}",
    "UNIFIED_API_PROTECT": "all",
    "UNIFIED_API_DENY_HOSTS": "0.0.0.0/0, ::/0",
    "UNIFIED_API_S3_READ_BUCKETS": "-",
}
#: A bucket, or a folder of one; `-` is none at all.
READ_BUCKET = re.compile(r"-|[a-z0-9][a-z0-9.-]*(?:/[^\s/]+)*/?")
ORIGIN = re.compile(r"\*|https?://[A-Za-z0-9._\[\]:-]+")


class Settings(BaseModel):
    """Every setting, its variable, default and bounds. The README lists the same."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=True)

    workflows_dir: Path | None = Field(None, alias="UNIFIED_API_WORKFLOWS_DIR")
    models: dict[str, dict[str, str]] = Field({}, alias="UNIFIED_API_MODELS")
    public_url: str | None = Field(None, alias="UNIFIED_API_PUBLIC_URL", pattern="^https?://[^/]+")
    log: Literal["text", "json", "journal"] = Field("text", alias="UNIFIED_API_LOG")
    allow_anonymous: bool = Field(False, alias="UNIFIED_API_ALLOW_ANONYMOUS")
    keys: tuple[Key, ...] = Field((), alias="UNIFIED_API_KEYS")
    protect: Literal["plugin", "all"] = Field("plugin", alias="UNIFIED_API_PROTECT")
    port: int | None = Field(None, alias="UNIFIED_API_PORT", ge=1, le=65535)
    host: str = Field("127.0.0.1", alias="UNIFIED_API_HOST")
    cors_origins: tuple[str, ...] = Field((), alias="UNIFIED_API_CORS_ORIGINS")
    rate_per_minute: int = Field(0, alias="UNIFIED_API_RATE_PER_MINUTE", ge=0)
    max_jobs_per_key: int = Field(0, alias="UNIFIED_API_MAX_JOBS_PER_KEY", ge=0)
    max_streams: int = Field(1000, alias="UNIFIED_API_MAX_STREAMS", ge=1)
    body_timeout: float = Field(60.0, alias="UNIFIED_API_BODY_TIMEOUT", gt=0, lt=inf)
    open_files: int = Field(65_536, alias="UNIFIED_API_OPEN_FILES", ge=64, le=2**20)
    max_connections: int | None = Field(None, alias="UNIFIED_API_MAX_CONNECTIONS", ge=1)
    head_timeout: float = Field(20.0, alias="UNIFIED_API_HEAD_TIMEOUT", gt=0, le=86400)
    keep_alive_timeout: float = Field(75.0, alias="UNIFIED_API_KEEP_ALIVE_TIMEOUT", gt=0, le=86400)
    send_timeout: float = Field(60.0, alias="UNIFIED_API_SEND_TIMEOUT", gt=0, le=86400)
    region: str = Field("us-east-1", alias="AWS_REGION", pattern="^[a-z0-9-]+$")
    bucket: str | None = Field(
        None, alias="S3_BUCKET", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
    )
    prefix: str = Field("images/comfyui-results", alias="UNIFIED_API_S3_PREFIX")
    kms_key_id: str | None = Field(None, alias="UNIFIED_API_S3_KMS_KEY_ID")
    extra_read_buckets: tuple[str, ...] = Field((), alias="UNIFIED_API_S3_READ_BUCKETS")
    cdn_domain: str | None = Field(None, alias="CLOUDFRONT_DOMAIN")
    url_mode: Literal["cdn", "presigned", "local"] | None = Field(
        None, alias="UNIFIED_API_URL_MODE"
    )
    presign_seconds: float = Field(7 * 86400, alias="UNIFIED_API_PRESIGN_SECONDS", gt=0, le=604800)
    queue_url: str | None = Field(None, alias="SQS_QUEUE_URL", pattern=r"^https?://[^/\s]+/\S+$")
    high_queue_url: str | None = Field(
        None, alias="UNIFIED_API_SQS_HIGH_QUEUE_URL", pattern=r"^https?://[^/\s]+/\S+$"
    )
    task_table: str = Field(
        "task_store", alias="DYNAMODB_TABLE", pattern=r"^[A-Za-z0-9_.-]{3,255}$"
    )
    list_queries: int = Field(20, alias="UNIFIED_API_LIST_QUERIES", ge=5, le=1000)
    prefetch: int = Field(1, alias="SQS_PREFETCH", ge=0, le=10)
    prefetch_seconds: float = Field(1.0, alias="UNIFIED_API_PREFETCH_SECONDS", ge=0, lt=inf)
    visibility_seconds: float = Field(120.0, alias="UNIFIED_API_VISIBILITY_SECONDS", ge=2, le=43200)
    drain_seconds: float = Field(100.0, alias="UNIFIED_API_DRAIN_SECONDS", ge=0, lt=inf)
    spot_notice: bool = Field(False, alias="UNIFIED_API_SPOT_NOTICE")
    imds_url: str = Field(
        "http://169.254.169.254",
        alias="AWS_EC2_METADATA_SERVICE_ENDPOINT",
        pattern=r"^https?://[^/\s]+/?$",
    )
    task_days: float = Field(14.0, alias="UNIFIED_API_TASK_DAYS", gt=0, le=14)
    gpu_instance_id: str | None = Field(None, alias="GPU_INSTANCE_ID", pattern="^i-[0-9a-f]{8,17}$")
    webhook_url: str | None = Field(
        None, alias="UNIFIED_API_WEBHOOK_URL", pattern=r"^https?://[^/\s]+(/\S*)?$"
    )
    webhook_timeout: float = Field(15.0, alias="UNIFIED_API_WEBHOOK_TIMEOUT", gt=0, lt=inf)
    webhook_slots: int = Field(64, alias="UNIFIED_API_WEBHOOK_SLOTS", ge=1, le=1000)
    webhook_slots_per_key: int = Field(16, alias="UNIFIED_API_WEBHOOK_SLOTS_PER_KEY", ge=1)
    webhook_slots_per_site: int = Field(8, alias="UNIFIED_API_WEBHOOK_SLOTS_PER_SITE", ge=1)
    webhook_slow_slots: int = Field(16, alias="UNIFIED_API_WEBHOOK_SLOW_SLOTS", ge=1)
    webhook_reserved_slots: int = Field(16, alias="UNIFIED_API_WEBHOOK_RESERVED_SLOTS", ge=0)
    webhook_slow_seconds: float = Field(3.0, alias="UNIFIED_API_WEBHOOK_SLOW_SECONDS", gt=0, lt=inf)
    webhook_secrets: tuple[Secret, ...] = Field((), alias="UNIFIED_API_WEBHOOK_SECRET")
    retention_days: float = Field(7.0, alias="UNIFIED_API_RETENTION_DAYS", gt=0, lt=3650)
    keep_metadata: bool = Field(False, alias="UNIFIED_API_KEEP_METADATA")
    png_level: int = Field(4, alias="UNIFIED_API_PNG_LEVEL", ge=0, le=9)
    picture_bytes: int = Field(2**30, alias="UNIFIED_API_PICTURE_BYTES", ge=0)
    spool_bytes: int = Field(10 * 2**30, alias="UNIFIED_API_SPOOL_BYTES", ge=0)
    thumbnail_bytes: int = Field(256 * 2**20, alias="UNIFIED_API_THUMBNAIL_BYTES", ge=0)
    allow_hosts: tuple[Place, ...] = Field((), alias="UNIFIED_API_ALLOW_HOSTS")
    deny_hosts: tuple[str, ...] = Field((), alias="UNIFIED_API_DENY_HOSTS")
    input_hours: float = Field(24.0, alias="UNIFIED_API_INPUT_HOURS", gt=0, lt=inf)
    input_bytes: int = Field(10 * 2**30, alias="UNIFIED_API_INPUT_BYTES", ge=0)
    max_pending: int = Field(20_000, alias="UNIFIED_API_MAX_PENDING", ge=1)
    max_attempts: int = Field(3, alias="UNIFIED_API_MAX_ATTEMPTS", ge=1, le=100)
    job_timeout: float = Field(1800.0, alias="UNIFIED_API_JOB_TIMEOUT", gt=0, lt=inf)
    interrupt_seconds: float = Field(30.0, alias="UNIFIED_API_INTERRUPT_SECONDS", gt=0, lt=inf)
    warm_up_seconds: float = Field(600.0, alias="UNIFIED_API_WARM_UP_SECONDS", ge=0, lt=inf)
    exit_on_hang: bool = Field(False, alias="UNIFIED_API_EXIT_ON_HANG")
    reset_store: bool = Field(False, alias="UNIFIED_API_RESET_STORE")
    min_free_bytes: int = Field(256 * 2**20, alias="UNIFIED_API_MIN_FREE_BYTES", ge=0)
    fetch_ahead: int = Field(64, alias="UNIFIED_API_FETCH_AHEAD", ge=1, le=256)
    max_image_bytes: int = Field(50 * 2**20, alias="UNIFIED_API_MAX_IMAGE_BYTES", ge=1)
    max_pixels: int = Field(40_000_000, alias="UNIFIED_API_MAX_PIXELS", ge=1)
    fetch_timeout: float = Field(60.0, alias="UNIFIED_API_FETCH_TIMEOUT", gt=0, lt=inf)

    #: One sentence for each variable that could not be used.
    problems: tuple[str, ...] = ()

    @field_validator("models", mode="before")
    @classmethod
    def _parse_models(cls, value: Any) -> Any:
        """'camera-angle.vae=a.safetensors, …' -> {'camera-angle': {'vae': 'a.safetensors'}}"""
        if not isinstance(value, str):
            return value
        models: dict[str, dict[str, str]] = {}
        for entry in _entries(value):
            place, _, name = entry.partition("=")
            slug, _, slot = place.strip().partition(".")
            if not (slug and slot and name.strip()):
                raise ValueError("write workflow.model=file, separated by commas")
            models.setdefault(slug, {})[slot] = name.strip()
        return models

    @field_validator("keys", mode="before")
    @classmethod
    def _parse_keys(cls, value: Any) -> Any:
        return tuple(map(Key.parse, _entries(value))) if isinstance(value, str) else value

    @field_validator("webhook_secrets", mode="before")
    @classmethod
    def _parse_secrets(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(map(Secret.parse, value.replace(",", " ").split()))

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(ORIGIN.fullmatch, value)):
            raise ValueError("write https://host or https://host:port, separated by commas, or *")
        return tuple(origin.lower() for origin in value)

    @field_validator("extra_read_buckets", "deny_hosts", "cors_origins", mode="before")
    @classmethod
    def _parse_list(cls, value: Any) -> Any:
        return _entries(value)

    @field_validator("extra_read_buckets")
    @classmethod
    def _check_read_buckets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(READ_BUCKET.fullmatch, value)) or ("-" in value and len(value) > 1):
            raise ValueError("write bucket or bucket/folder, separated by commas, or -")
        if any({".", ".."} & set(entry.split("/")) for entry in value):
            raise ValueError("a folder cannot be called . or ..")
        return value

    @field_validator("deny_hosts")
    @classmethod
    def _check_denied(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(deny_entry, value))

    @field_validator("allow_hosts", mode="before")
    @classmethod
    def _parse_places(cls, value: Any) -> Any:
        return tuple(map(Place.parse, _entries(value))) if isinstance(value, str) else value

    @property
    def readable(self) -> Readable:
        """What inputs may be read from S3 with this machine's credentials."""
        own = self.bucket
        prefix = "/".join(filter(None, (own, self.prefix)))
        named = tuple(Prefix.parse(entry) for entry in self.extra_read_buckets if entry != "-")
        is_default = own is not None and not self.extra_read_buckets
        return Readable(
            opened=named,
            default=(Prefix(own, (DEFAULT_FOLDER,)),) if own and is_default else (),
            owned=(Prefix.parse(prefix), Prefix(own, (DEPOSIT,))) if own else (),
        )

    @property
    def read_buckets(self) -> frozenset[str]:
        """The buckets that inputs may come from."""
        return self.readable.buckets

    @property
    def published(self) -> dict[str, str]:
        """Host of the CDN -> the bucket it serves."""
        if not (self.cdn_domain and self.bucket):
            return {}
        host = self.cdn_domain.strip().rpartition("://")[2].strip("/").lower()
        return {host: self.bucket}

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read all settings. Empty means unset; what is wrong goes to `problems`."""
        names = {field.alias for field in cls.model_fields.values()}
        given = {name: environ[name] for name in names if name and environ.get(name, "").strip()}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            wrong = {str(fault["loc"][0]): fault["msg"] for fault in error.errors()}
        strict = {name: value for name, value in STRICT.items() if name in wrong}
        kept = {name: value for name, value in given.items() if name not in wrong} | strict
        problems = tuple(
            f"{name} is {'taken at its strictest' if name in STRICT else 'ignored'}: {why}"
            for name, why in wrong.items()
        )
        return cls.model_validate({**kept, "problems": problems})


def _entries(value: Any) -> Any:
    """'a, b' -> ('a', 'b')"""
    return (
        tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value
    )

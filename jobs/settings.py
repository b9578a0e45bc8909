"""The only reader of the environment. A wrong setting is reported and its default used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator


class Settings(BaseModel):
    """Every setting, its variable, default and bounds. The README lists the same."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=True)

    workflows_dir: Path | None = Field(None, alias="UNIFIED_API_WORKFLOWS_DIR")
    models: dict[str, dict[str, str]] = Field({}, alias="UNIFIED_API_MODELS")
    public_url: str | None = Field(None, alias="UNIFIED_API_PUBLIC_URL", pattern="^https?://[^/]+")
    allow_anonymous: bool = Field(False, alias="UNIFIED_API_ALLOW_ANONYMOUS")
    max_pending: int = Field(20_000, alias="UNIFIED_API_MAX_PENDING", ge=1)
    max_attempts: int = Field(3, alias="UNIFIED_API_MAX_ATTEMPTS", ge=1, le=100)
    job_timeout: float = Field(1800.0, alias="UNIFIED_API_JOB_TIMEOUT", gt=0, lt=inf)
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
        for entry in filter(None, map(str.strip, value.split(","))):
            place, _, name = entry.partition("=")
            slug, _, slot = place.strip().partition(".")
            if not (slug and slot and name.strip()):
                raise ValueError("write workflow.model=file, separated by commas")
            models.setdefault(slug, {})[slot] = name.strip()
        return models

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read all settings. Empty means unset; what is wrong goes to `problems`."""
        names = {field.alias for field in cls.model_fields.values()}
        given = {name: environ[name] for name in names if name and environ.get(name, "").strip()}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            wrong = {str(fault["loc"][0]): fault["msg"] for fault in error.errors()}
        kept = {name: value for name, value in given.items() if name not in wrong}
        problems = tuple(f"{name} is ignored: {why}" for name, why in wrong.items())
        return cls.model_validate({**kept, "problems": problems})

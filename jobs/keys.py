"""Keys: who may do what. Only the hash of a key is known here."""

from __future__ import annotations

from enum import Enum

from pydantic import BaseModel, ConfigDict, Field

NAME = r"^[A-Za-z0-9_.-]{1,64}$"
SHA256 = r"^[0-9a-f]{64}$"
SYNTAX = "write name:scope+scope:hash, separated by commas, as `./install.sh key list` shows it"


class Scope(str, Enum):
    """What a key may be used for. `admin` implies the others, on everybody's jobs.

    `read-all` implies `read`, on everybody's jobs.
    """

    SUBMIT = "submit"
    READ = "read"
    READ_ALL = "read-all"
    CANCEL = "cancel"
    ADMIN = "admin"


class Key(BaseModel):
    """A key by its name, which owns the jobs that are submitted with it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(pattern=NAME)
    scopes: frozenset[Scope] = Field(min_length=1)
    sha256: str = Field(pattern=SHA256)

    @classmethod
    def parse(cls, text: str) -> Key:
        """'ci:submit+read:0123…' -> a key. Raises ValueError, which quotes none of it."""
        try:
            name, scopes, sha256 = text.split(":")
            return cls(name=name, scopes=frozenset(map(Scope, scopes.split("+"))), sha256=sha256)
        except ValueError:
            raise ValueError(SYNTAX) from None

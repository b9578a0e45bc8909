"""The HTTP surface, the same on the GPU and on the orchestrator."""

from .announce import announce
from .api import mount

__all__ = ["announce", "mount"]

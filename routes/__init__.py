"""The HTTP surface, the same on the GPU and on the orchestrator."""

from .announce import announce
from .api import mount
from .listener import Listener
from .lockdown import Lock

__all__ = ["Listener", "Lock", "announce", "mount"]

"""The HTTP surface, the same on the GPU and on the orchestrator."""

from .announce import announce
from .api import mount
from .listener import Listener
from .lockdown import lock

__all__ = ["Listener", "announce", "lock", "mount"]

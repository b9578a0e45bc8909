"""The HTTP surface, the same on the GPU and on the orchestrator."""

from .announce import announce
from .api import mount
from .listener import Listener
from .lockdown import Lock
from .server_log import count_server_errors

__all__ = ["Listener", "Lock", "announce", "count_server_errors", "mount"]

"""The HTTP surface, the same on the GPU and on the orchestrator."""

from .announce import announce
from .api import mount
from .listener import Listener
from .lockdown import lock
from .server_log import count_server_errors

__all__ = ["Listener", "announce", "count_server_errors", "lock", "mount"]

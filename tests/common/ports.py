"""Ports for the servers of tests: no two processes of a run get the same one."""

from __future__ import annotations

import itertools
import os
import socket

HOST = "127.0.0.1"
#: Below what Linux and macOS hand to clients: there a connection could take a port meanwhile.
FIRST, PORTS_OF_ONE = 12_000, 1_000
#: pytest-xdist numbers its processes: gw0, gw1 and so on.
NUMBER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])

# Another run on this machine probably begins elsewhere.
_offsets = itertools.count(os.getpid())


def free_port() -> int:
    """A free port. It is returned once, so that it stays free when its server has ended."""
    for offset in itertools.islice(_offsets, PORTS_OF_ONE):
        port = FIRST + NUMBER * PORTS_OF_ONE + offset % PORTS_OF_ONE
        if _is_free(port):
            return port
    raise RuntimeError("all ports of the tests are in use")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True

"""Moto's server, its table made atomic: by itself, two writes can both find a condition true.

Measured on moto 5.2.5: of 100 races of 12 conditional updates, 1 had several winners. DynamoDB
has one, always.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from moto.dynamodb.responses import DynamoHandler
from moto.server import main


def one_at_a_time(work: Callable[..., Any]) -> Callable[..., Any]:
    lock = Lock()

    def locked(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return work(*args, **kwargs)

    return locked


if __name__ == "__main__":
    DynamoHandler.call_action = one_at_a_time(DynamoHandler.call_action)  # type: ignore[method-assign]
    main()

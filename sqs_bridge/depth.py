"""Depth: about how many messages the queues have, known before somebody asks."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from .aws import Aws, AwsFailed

log = logging.getLogger(__name__)

DEPTH_SECONDS = 10.0
ATTRIBUTES = {
    "visible": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
}


class Depth:
    """`urls` are those of the queues, by name; those without one are left out."""

    def __init__(self, sqs: Aws, urls: Mapping[str, str | None]) -> None:
        self._sqs = sqs
        self._urls = {name: url for name, url in urls.items() if url}
        self._found: dict[str, dict[str, str]] = {}
        self._problems: dict[str, str] = {}

    @property
    def queues(self) -> list[str]:
        return list(self._urls)

    def count(self, queue: str, state: str) -> float:
        """Of the messages in a state of ATTRIBUTES. Not a number while that is not known."""
        return float(self._found.get(queue, {}).get(ATTRIBUTES[state], math.nan))

    async def look(self) -> None:
        """Ask each queue."""
        for queue, url in self._urls.items():
            try:
                self._found[queue] = await self._ask(url)
                self._problems.pop(queue, None)
            except AwsFailed as failure:
                self._found.pop(queue, None)
                self._warn(queue, failure)

    async def _ask(self, url: str) -> dict[str, str]:
        names = list(ATTRIBUTES.values())
        answer = await self._sqs.peek("get_queue_attributes", QueueUrl=url, AttributeNames=names)
        found: dict[str, str] = answer["Attributes"]
        return found

    def _warn(self, queue: str, failure: AwsFailed) -> None:
        """Once of a failure that stays."""
        if self._problems.get(queue) != failure.reason:
            self._problems[queue] = failure.reason
            log.warning("the messages of the %s queue cannot be counted: %s", queue, failure)

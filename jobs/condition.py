"""Condition: how well the engine is, part by part."""

from __future__ import annotations

from .errors import StorageDenied
from .health import Component, State, unless
from .notify.webhooks import Webhooks
from .reception import Reception
from .warm_up import WarmUp
from .workshop import Workshop


class Condition:
    """Asked whenever somebody wants to know; nothing is remembered."""

    def __init__(
        self, workshop: Workshop, reception: Reception, webhooks: Webhooks, warm_up: WarmUp
    ) -> None:
        self._shop = workshop
        self._reception = reception
        self._webhooks = webhooks
        self._warm_up = warm_up

    @property
    def is_ready(self) -> bool:
        """Whether a job accepted now would run."""
        problems = (self._shop.host.problem, self._reception.closed, self._shop.disk.problem)
        if any(problems) or not self._warm_up.is_over:
            return False
        return any(each.is_healthy for each in self._shop.offer.all())

    @property
    def can_publish(self) -> bool:
        """Whether the result of another job could be put anywhere."""
        shop = self._shop
        is_denied = isinstance(shop.results.trouble, StorageDenied)
        return not (is_denied or shop.disk.problem or shop.spool.problem)

    @property
    def is_stuck(self) -> bool:
        """Whether ComfyUI has stopped working."""
        return self._shop.host.problem is not None

    def components(self) -> dict[str, Component]:
        """How each part is, by name."""
        shop, trouble = self._shop, self._webhooks.problem
        settings = "; ".join((*shop.settings.problems, *shop.offer.problems))
        return {
            "comfyui": unless(shop.host.problem, State.UNHEALTHY),
            "store": unless(self._reception.closed, State.UNHEALTHY),
            "disk": unless(shop.disk.problem, State.DEGRADED),
            "storage": self._storage(),
            "workflows": shop.offer.component,
            "settings": unless(settings, State.DEGRADED),
            "warm_up": self._warm_up.component,
            **({"webhooks": Component(State.DEGRADED, trouble)} if trouble else {}),
        }

    def _storage(self) -> Component:
        trouble = self._shop.results.trouble
        if isinstance(trouble, StorageDenied):
            return Component(State.UNHEALTHY, str(trouble))
        return unless(self._shop.spool.problem or str(trouble or ""), State.DEGRADED)

"""One line in the log when the service is up, and one for each thing that is wrong."""

from __future__ import annotations

import logging

from ..jobs.health import State
from .service import Service, Surface
from .view import PREFIX

log = logging.getLogger(__name__)


def announce(service: Service, surface: Surface, url: str) -> None:
    """`url` is where the web server of this process answers, without a path."""
    offered = service.offer.all()
    healthy = sum(one.is_healthy for one in offered)
    log.info(
        "Unified API %s: %s%s | workflows: %d healthy, %d unhealthy | storage: local folder"
        " | auth: %s | queue: off",
        surface.version,
        url,
        PREFIX,
        healthy,
        len(offered) - healthy,
        "none" if surface.is_open else "closed until configured",
    )
    for one in offered:
        if not one.is_healthy:
            log.warning("Unified API: workflow %s: %s", one.slug, "; ".join(one.problems))
    for name, part in service.components().items():
        if part.state is not State.HEALTHY and name != "workflows":
            log.warning("Unified API: %s is %s: %s", name, part.state.value, part.reason)

"""One line in the log when the service is up, and one for each thing that is wrong."""

from __future__ import annotations

import logging
import sys

from ..jobs.health import State
from .about import components_of
from .anonymous import access_of
from .service import Service, Surface
from .view import PREFIX

UNLOCKED = (
    "keys guard the API, but whoever reaches this port can use the rest of ComfyUI without one;"
    " UNIFIED_API_PROTECT=all locks that too, UNIFIED_API_PORT serves the API alone"
)

log = logging.getLogger(__name__)


def announce(
    service: Service, surface: Surface, *, url: str, bucket: str | None, queue: str | None
) -> None:
    """`url` is where the web server of this process answers, without a path."""
    offered = service.offer.all()
    healthy = sum(one.is_healthy for one in offered)
    log.info(
        "Unified API %s: %s%s | workflows: %d healthy, %d unhealthy | storage: %s"
        " | auth: %s | queue: %s",
        surface.version,
        url,
        PREFIX,
        healthy,
        len(offered) - healthy,
        f"s3://{bucket}" if bucket else "local folder",
        auth_of(surface),
        queue.rsplit("/", 1)[-1] if queue else "off",
    )
    if surface.keyring.is_required and not (surface.is_local or surface.is_locked):
        log.warning("Unified API: %s", UNLOCKED)
    for one in offered:
        if not one.is_healthy:
            problems = _printable("; ".join(one.problems))
            log.warning("Unified API: workflow %s: %s", one.slug, problems)
    for name, part in components_of(service, surface).items():
        if part.state is not State.HEALTHY and name != "workflows":
            reason = _printable(part.reason or "")
            log.warning("Unified API: %s is %s: %s", name, part.state.value, reason)


def _printable(text: str) -> str:
    """As ComfyUI's console can show it: a line with anything else would be lost."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def auth_of(surface: Surface) -> str:
    """Who is admitted, in a few words; `/health` says more."""
    if surface.keyring.is_required:
        return "closed, no key is left" if surface.keyring.lack else "keys"
    if surface.is_open:
        return "none, open to everybody who reaches the port"
    is_closed = access_of(surface).state is not State.HEALTHY
    return "closed until configured" if is_closed else "none, open to callers on this machine"

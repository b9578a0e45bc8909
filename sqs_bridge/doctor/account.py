"""Account: whom AWS takes this machine for, what time it is there, and which instance it starts."""

from __future__ import annotations

from functools import partial

from ..aws import AwsFailed
from .examination import Arns, Examination
from .finding import Level, failed, ok, skipped, warning
from .probe import NO_CREDENTIALS, Probe, trouble_of

#: Signatures count for five minutes; leases are compared by the clocks of the machines.
LARGEST_SKEW_SECONDS, WORRYING_SKEW_SECONDS = 300, 10


async def identity(examination: Examination) -> None:
    """Everybody may ask that; without credentials there is nothing else to ask."""
    settings = examination.settings
    if not (settings.queue_url or settings.read_buckets):
        return
    async with examination.aws("sts") as sts:
        try:
            arn = (await examination.ask(partial(sts.peek, "get_caller_identity")))["Arn"]
        except AwsFailed as failure:
            trouble = trouble_of(failure)
            examination.is_over = trouble is NO_CREDENTIALS
            # A bucket that is not AWS's has credentials of its own, and STS may be out of reach.
            level = failed if examination.is_over else warning
            examination.tell(level("credentials", f"asking STS: {trouble.text}", trouble.cure))
            return
    _, partition, _, _, account, _ = arn.split(":", 5)
    examination.arns = Arns(settings.region, partition, account)
    examination.tell(ok("credentials", f"are those of {arn}"))


async def clock(examination: Examination) -> None:
    """Comes last, when somebody has told the time."""
    skew = examination.skew
    if skew is None:
        examination.tell(skipped("clock", "nobody answered who knows what time it is"))
        return
    told = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} that of AWS"
    if abs(skew) > LARGEST_SKEW_SECONDS:
        examination.tell(failed("clock", told, "Set it by NTP: AWS refuses what is signed so."))
    elif abs(skew) > WORRYING_SKEW_SECONDS:
        examination.tell(warning("clock", told, "Set it by NTP: leases are compared by it."))
    else:
        examination.tell(ok("clock", "agrees with that of AWS"))


async def gpu_instance(examination: Examination) -> None:
    instance_id = examination.settings.gpu_instance_id
    if instance_id is None:
        return
    async with examination.aws("ec2") as ec2:
        probe = Probe(
            "ec2:StartInstances",
            examination.arns.instance(instance_id),
            partial(ec2.peek, "start_instances", InstanceIds=[instance_id], DryRun=True),
            allowed_by=frozenset({"DryRunOperation"}),
            level=Level.WARNING,
            without="it has to be started by hand",
        )
        await examination.make(probe)

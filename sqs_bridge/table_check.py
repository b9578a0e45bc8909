"""TableCheck: the task table, by writes whose conditions never hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial

from ..jobs.doctor import Finding, ok, skipped, warning
from ..jobs.job import Status
from ..jobs.settings import Settings
from .aws import CONDITION_FAILED, Aws, AwsFailed
from .dynamodb import spoken, to_wire
from .patient import Names, Patient, call
from .probe import DENIED, Probe, Trouble
from .task_index import INDEX, OF_STATUS
from .task_table import KNOWN, NO_TASK

ENDS_AT = "expires_at"
REFUSED = frozenset({CONDITION_FAILED})
NO_INDEX = Trouble(
    "the table has no such index",
    f"Add a global secondary index {INDEX}: hash key status (S), range key created_at (N),"
    " projection ALL.",
)
OTHER_KEY = Trouble(
    "the table has another key", "Use a table whose key is task_id (S), without a range key."
)

Probes = Callable[[Aws, Settings, Names], Iterable[Probe]]


async def worker_table(patient: Patient) -> AsyncIterator[Finding]:
    if patient.settings.queue_url is None:
        yield skipped("table", "is used with a queue alone")
        return
    async for finding in _table(patient, worker_probes):
        yield finding


async def orchestrator_table(patient: Patient) -> AsyncIterator[Finding]:
    async for finding in _table(patient, orchestrator_probes):
        yield finding


def worker_probes(dynamodb: Aws, settings: Settings, names: Names) -> Iterator[Probe]:
    """Reading a task and changing one, where there is none."""
    probe = partial(
        Probe,
        resource=names.table(settings.task_table),
        allowed_by=REFUSED,
        means={"ValidationException": OTHER_KEY},
    )
    ask = partial(call, dynamodb, TableName=settings.task_table, Key=to_wire({"task_id": NO_TASK}))
    yield probe("dynamodb:GetItem", use=ask("get_item"))
    change = "REMOVE #enqueue"
    update = {"UpdateExpression": change, "ConditionExpression": KNOWN, **spoken({}, change, KNOWN)}
    yield probe("dynamodb:UpdateItem", use=ask("update_item", **update))


def orchestrator_probes(dynamodb: Aws, settings: Settings, names: Names) -> Iterator[Probe]:
    yield from worker_probes(dynamodb, settings, names)
    table, ask = names.table(settings.task_table), partial(call, TableName=settings.task_table)
    put = {"Item": to_wire({"task_id": NO_TASK}), "ConditionExpression": KNOWN}
    use = ask(dynamodb, "put_item", **put, **spoken({}, KNOWN))
    yield Probe("dynamodb:PutItem", table, use, REFUSED)
    query = {"IndexName": INDEX, "KeyConditionExpression": OF_STATUS, "Limit": 1}
    use = ask(dynamodb, "query", **query, **spoken({"status": Status.PENDING.value}, OF_STATUS))
    means = dict.fromkeys(("ValidationException", "ResourceNotFoundException"), NO_INDEX)
    yield Probe("dynamodb:Query", f"{table}/index/{INDEX}", use, means=means)


async def _table(patient: Patient, probes: Probes) -> AsyncIterator[Finding]:
    async with patient.aws("dynamodb") as dynamodb:
        wanted = probes(dynamodb, patient.settings, patient.names)
        async for finding in patient.examiner.examine_all(wanted):
            yield finding
        yield await _ends(dynamodb, patient.settings.task_table)


async def _ends(dynamodb: Aws, table: str) -> Finding:
    """Whether items of old tasks go by themselves. Nobody else needs the permission to see it."""
    try:
        answer = await dynamodb.peek("describe_time_to_live", TableName=table)
    except AwsFailed as failure:
        why = "dynamodb:DescribeTimeToLive is needed for that alone"
        reason = why if failure.reason in DENIED else failure.reason
        return skipped("table", f"cannot be asked whether old items end: {reason}")
    told = answer["TimeToLiveDescription"]
    is_on = told["TimeToLiveStatus"] in {"ENABLED", "ENABLING"}
    if is_on and told.get("AttributeName") == ENDS_AT:
        return ok("table", f"items end at {ENDS_AT}")
    return warning("table", "keeps items for ever", f"Enable TTL on the attribute {ENDS_AT}.")

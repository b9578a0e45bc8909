"""Table: by reads, and by writes whose conditions never hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from ...jobs.job import Status
from ..aws import CONDITION_FAILED, Aws, AwsFailed
from ..dynamodb import spoken, to_wire
from ..task_index import INDEX, OF_OWNER, OF_STATUS, OWNER_INDEX
from ..task_table import KNOWN, NO_TASK
from .examination import Examination
from .finding import Finding, Level, ok, skipped, warning
from .probe import DENIED, Probe, Trouble

ENDS_AT = "expires_at"
REFUSED = frozenset({CONDITION_FAILED})
NO_SUCH_INDEX = ("ValidationException", "ResourceNotFoundException")
NO_INDEX = Trouble(
    "the table has no such index",
    f"Add a global secondary index {INDEX}: hash key status (S), range key created_at (N),"
    " projection ALL.",
)
NO_OWNER_INDEX = Trouble(
    "the table has no such index yet, so lists of one key's jobs take more queries",
    "Run `python -m deploy.aws.create --only-table --table NAME` in the folder of this plugin: it"
    " adds the index, and DynamoDB fills it. Nothing has to be stopped.",
)
WITHOUT_OWNER_INDEX = "lists of one key's jobs take more queries"
OTHER_KEY = Trouble(
    "the table has another key", "Use a table whose key is task_id (S), without a range key."
)


#: Of a table, by its name and its ARN.
Probes = Callable[[Aws, str, str], Iterable[Probe]]


async def worker_table(examination: Examination) -> None:
    if examination.settings.queue_url is None:
        examination.tell(skipped("table", "is used with a queue alone"))
    else:
        await _table(examination, _worker_probes)


async def orchestrator_table(examination: Examination) -> None:
    await _table(examination, _orchestrator_probes)


def _worker_probes(dynamodb: Aws, table: str, arn: str) -> Iterator[Probe]:
    """Reading a task and changing one, where there is none."""
    probe = partial(
        Probe, resource=arn, allowed_by=REFUSED, means={"ValidationException": OTHER_KEY}
    )
    at = {"TableName": table, "Key": to_wire({"task_id": NO_TASK})}
    yield probe("dynamodb:GetItem", use=partial(dynamodb.peek, "get_item", **at))
    change = "REMOVE #enqueue"
    update = {"UpdateExpression": change, "ConditionExpression": KNOWN, **spoken({}, change, KNOWN)}
    use = partial(dynamodb.peek, "update_item", **at, **update)
    yield probe("dynamodb:UpdateItem", use=use)


def _orchestrator_probes(dynamodb: Aws, table: str, arn: str) -> Iterator[Probe]:
    yield from _worker_probes(dynamodb, table, arn)
    put = {"Item": to_wire({"task_id": NO_TASK}), "ConditionExpression": KNOWN, **spoken({}, KNOWN)}
    use = partial(dynamodb.peek, "put_item", TableName=table, **put)
    yield Probe("dynamodb:PutItem", arn, use, REFUSED)
    query = partial(dynamodb.peek, "query", TableName=table, Limit=1)
    pending = spoken({"status": Status.PENDING.value}, OF_STATUS)
    use = partial(query, IndexName=INDEX, KeyConditionExpression=OF_STATUS, **pending)
    means = dict.fromkeys(NO_SUCH_INDEX, NO_INDEX)
    yield Probe("dynamodb:Query", f"{arn}/index/{INDEX}", use, means=means)
    nobody = spoken({"owner": NO_TASK}, OF_OWNER)
    use = partial(query, IndexName=OWNER_INDEX, KeyConditionExpression=OF_OWNER, **nobody)
    yield Probe(
        "dynamodb:Query",
        f"{arn}/index/{OWNER_INDEX}",
        use,
        means=dict.fromkeys(NO_SUCH_INDEX, NO_OWNER_INDEX),
        level=Level.WARNING,
        without=WITHOUT_OWNER_INDEX,
    )


async def _table(examination: Examination, probes: Probes) -> None:
    name = examination.settings.task_table
    async with examination.aws("dynamodb") as dynamodb:
        await examination.make_all(probes(dynamodb, name, examination.arns.table(name)))
        examination.tell(await _ends(dynamodb, name))


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

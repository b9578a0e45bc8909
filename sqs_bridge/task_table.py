"""TaskTable: the tasks in DynamoDB, one at a time. A status only moves forward.

Every write says on which condition it counts. boto3 repeats a call whose answer was lost, and the
repetition is then refused; so a refusal that shows our own mark is success.

An idempotency key is an item of its own in the same table, which names the task that has the key:
its `task_id` is one that no message and no caller can name, and without `status` it is in no index.
Task and key are stored by one transaction, so there is no moment at which a crash leaves one
without the other: before it nothing is there, and after it a repeated request finds the task,
which is sent by whoever finds it unsent. A key whose task has gone is free again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import uuid4

from ..jobs.errors import DeadlineExceeded, JobFailed
from ..jobs.job import Job, Stage, Status
from ..jobs.prompt import Progress
from .aws import CONFLICT_PAUSES, Aws, AwsFailed
from .claim import Claim, HeldByOther, Hold, Terminal
from .dynamodb import Item, from_wire, setting, setting_once, spoken, to_wire
from .task_item import (
    UNSENT,
    Record,
    UnreadableItem,
    new_item,
    present_state,
    record_of,
    remains_of,
)
from .writes import Write, Writes

#: No queue keeps a message for longer, so what is older cannot be run any more.
LONGEST_WAIT_SECONDS = 14 * 86400

#: No task has this id, so that an update of it changes nothing.
NO_TASK = "/"
#: The ids of the items of idempotency keys begin like this, and those of tasks do not.
KEYS = "idempotency/"
#: Of a key in DynamoDB.
LONGEST_KEY_BYTES = 2048
#: Longer than any task is kept, even one that is deleted on its last day.
KEY_SECONDS = 2 * LONGEST_WAIT_SECONDS
#: A table's name as far as others need to know it: which are the same.
DIGEST_LENGTH = 12
UNKNOWN = "attribute_not_exists(#task_id)"
KNOWN = "attribute_exists(#task_id)"
PENDING = "#status = :pending"
PROCESSING = "#status = :processing"
# A worker that knows no leases leaves none; a message of its task comes when it is dead.
LEASE_OVER = "(attribute_not_exists(#lease_until) OR #lease_until < :now)"
FREE = f"({PENDING} OR ({PROCESSING} AND {LEASE_OVER}))"
CLAIMABLE = f"{UNKNOWN} OR {FREE}"
ENDED = "#status IN (:completed, :failed, :cancelled)"
REMOVABLE = f"{ENDED} AND attribute_not_exists(#deleted)"
#: Nobody runs what cannot be read, whatever its status says.
UNREADABLE_REMOVABLE = f"{KNOWN} AND attribute_not_exists(#deleted)"
STILL_MINE = f"#fence = :fence AND {PROCESSING}"
#: Of an idempotency key: it still names the task that has gone.
IS_FREE = "#job_id = :gone"

FINAL = frozenset(status.value for status in Status if status.is_final)
#: What conditions compare with.
STATUSES = {status.value: status.value for status in Status}


class Answer(NamedTuple):
    """Whether a write counted, and the task: as it is now, or as it was if the write did not."""

    counted: bool
    record: Record | None


class TaskTable:
    """Every method may raise AwsFailed, and `claim` UnreadableItem.

    `clock` tells seconds since the epoch. Clocks that differ make a task run twice at worst.
    """

    def __init__(
        self,
        dynamodb: Aws,
        name: str,
        *,
        retention_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        #: What becomes known of the table to those who read results.
        self.digest = sha256(name.encode()).hexdigest()[:DIGEST_LENGTH]
        self._dynamodb = dynamodb
        self._name = name
        self._retention_seconds = retention_seconds
        self._clock = clock
        self._puts = Writes(dynamodb, name, "put_item")
        self._updates = Writes(dynamodb, name, "update_item")

    async def get(self, task_id: str) -> Record | None:
        """As it is at this moment."""
        return _record(await self._item(task_id))

    async def of_key(self, key: str) -> Record | None:
        """The task that was accepted with an idempotency key, by the digest of that."""
        holder = await self._holder(key)
        return await self.get(holder) if holder else None

    async def put_new(self, job: Job, *, key: str | None = None) -> Record | None:
        """Store a job that is yet to be sent, and with it the digest of its idempotency key.

        An earlier one of its id or its key stays and is returned.
        """
        nonce = uuid4().hex
        put = _put({**self._new_item(job), "enqueue": UNSENT, "nonce": nonce}, UNKNOWN)
        if key is not None:
            return await self._put_with_key(put, job, key)
        earlier = _record((await self._puts.together(put)).item)
        return earlier if earlier and earlier.item.get("nonce") != nonce else None

    async def mark_sent(self, task_id: str) -> None:
        """Its message is in the queue."""
        await self._updates.together(_change_of(task_id, "REMOVE #enqueue", KNOWN))

    async def probe(self) -> None:
        """Ask whether the table can be written, without writing to it."""
        await self.mark_sent(NO_TASK)

    async def claim(
        self, draft: Job, *, owner: str, lease_seconds: float
    ) -> Claim | Terminal | HeldByOther:
        """Take a task for a while. Where the table says otherwise than `draft`, the table counts.

        A task that it does not know is added.
        """
        now = self._clock()
        lease = {"lease_owner": f"{owner}:{uuid4().hex}", "lease_until": now + lease_seconds}
        sets = {"status": Status.PROCESSING.value, "updated_at": int(now), **lease}
        first = {"started_at": now, **self._new_item(draft)}
        once = {name: value for name, value in first.items() if name not in {*sets, "task_id"}}
        change = f"SET {setting(sets)}, {setting_once(once)} REMOVE #enqueue ADD #fence :one"
        counted, record = await self._update(
            draft.job_id, change, CLAIMABLE, **sets, **once, now=now, one=1
        )
        assert record is not None
        # A status that is not known may be that of a newer version.
        if not record.job.is_readable and record.item.get("status") not in FINAL:
            raise UnreadableItem()
        if counted or record.item.get("lease_owner") == lease["lease_owner"]:
            return Claim(record.job, record.fence, record.wants_cancel)
        if record.job.status.is_final:
            return Terminal(record.job, record.is_deleted or not record.job.is_readable)
        return HeldByOther(record.held_until)

    async def extend(
        self, claim: Claim, job: Job, progress: Progress, *, lease_seconds: float
    ) -> Hold:
        """Keep a claim for a while from now, and tell how far the job is."""
        now = self._clock()
        sets = {
            **present_state(job),
            "percent": progress.percent,
            "updated_at": int(now),
            "lease_until": now + lease_seconds,
        }
        counted, record = await self._update_mine(claim, f"SET {setting(sets)}", sets)
        if not counted or record is None:
            return Hold.LOST
        return Hold.CANCEL_WANTED if record.wants_cancel else Hold.KEPT

    async def finish(self, claim: Claim, ended: Job, *, result_url: str | None = None) -> bool:
        """Tell how the job of a claim ended. False if the claim was lost: then nothing changes."""
        sets = {**self._end(ended.status), **present_state(ended)}
        if result_url is not None:
            sets["result_s3_uri"] = result_url
        change = f"SET {setting(sets)} REMOVE #lease_owner, #lease_until, #stage"
        counted, record = await self._update_mine(claim, change, sets)
        # If the answer was lost, the table shows this very end under our fence.
        return counted or (
            record is not None and (record.fence, record.job.status) == (claim.fence, ended.status)
        )

    async def hand_back(self, claim: Claim, *, reason: str) -> bool:
        """Let anybody claim the task at once. It stays `processing`. False if it was lost."""
        now = int(self._clock())
        sets = {"last_error": reason, "stage": Stage.QUEUED.value, "updated_at": now}
        change = f"SET {setting(sets)} REMOVE #lease_owner, #lease_until"
        return (await self._update_mine(claim, change, sets)).counted

    async def request_cancel(self, task_id: str) -> Answer:
        """Cancel a task that waits, or ask the worker of one that runs to cancel it.

        It counted if this ended the task.
        """
        sets = self._end(Status.CANCELLED)
        change = f"SET {setting(sets)} REMOVE #enqueue"
        answer = await self._update(task_id, change, PENDING, **sets)
        record = answer.record
        if answer.counted or record is None or record.job.status.is_final:
            return answer
        asked = await self._update(task_id, "SET #cancel_requested = :true", PROCESSING, true=True)
        return Answer(False, asked.record)

    async def remove(self, record: Record) -> bool:
        """Leave no more of a task that has ended than that it has. False if that is done already.

        No copy of its message is run, as long as there may be one.
        """
        now, nonce = self._clock(), uuid4().hex
        until = int(now + LONGEST_WAIT_SECONDS)
        sets = {"updated_at": int(now), "expires_at": until, "nonce": nonce}
        condition = REMOVABLE if record.job.is_readable else UNREADABLE_REMOVABLE
        put = _put({**remains_of(record), **sets}, condition, **STATUSES)
        counted, earlier = await self._puts.alone(put)
        return counted or (earlier is not None and earlier.get("nonce") == nonce)

    async def give_up(self, task_id: str) -> Item | None:
        """Fail a task that has waited for too long; its item then. None if it does not wait."""
        return await self._fail(task_id, DeadlineExceeded(), PENDING)

    async def abandon(self, task_id: str, error: JobFailed) -> Item | None:
        """Fail a task that nobody holds; its item then. None if somebody does, or it has ended."""
        return await self._fail(task_id, error, FREE)

    async def _put_with_key(self, put: Write, job: Job, key: str) -> Record | None:
        """Both or neither. The task that has the key already, if there is one."""
        gone: str | None = None
        refusal: AwsFailed | None = None
        for pause in CONFLICT_PAUSES:
            refusal = await self._puts.all_or_none([put, self._put_of_key(key, job, gone)])
            if refusal is None:
                return None
            holder = await self._holder(key)
            if holder == job.job_id:
                # The transaction was made, its answer lost, and its repetition refused.
                return None
            if holder and (earlier := await self.get(holder)):
                return earlier
            gone = holder
            await asyncio.sleep(pause)
        assert refusal is not None
        raise refusal

    def _put_of_key(self, key: str, job: Job, gone: str | None) -> Write:
        """`gone` is the task that has the key and is not there any more."""
        ends = int(job.created_at + KEY_SECONDS + self._retention_seconds)
        item = {"task_id": f"{KEYS}{key}", "job_id": job.job_id, "expires_at": ends}
        return _put(item, f"{UNKNOWN} OR {IS_FREE}", gone=gone) if gone else _put(item, UNKNOWN)

    async def _holder(self, key: str) -> str | None:
        """The id of the task that has an idempotency key, or had it."""
        item = await self._item(f"{KEYS}{key}")
        return str(item["job_id"]) if item else None

    async def _item(self, task_id: str) -> Item | None:
        answer = await self._dynamodb.call(
            "get_item", TableName=self._name, Key=_key(task_id), ConsistentRead=True
        )
        return from_wire(answer["Item"]) if "Item" in answer else None

    async def _fail(self, task_id: str, error: JobFailed, condition: str) -> Item | None:
        sets = {
            **self._end(Status.FAILED),
            "error_message": str(error),
            "error_detail": {"code": error.code, "retryable": error.retryable},
        }
        change = f"SET {setting(sets)} REMOVE #enqueue, #lease_owner, #lease_until, #stage"
        # With a higher fence no earlier claim takes this end for its own.
        change += " ADD #fence :one"
        update = _change_of(task_id, change, condition, **sets, now=self._clock(), one=1)
        counted, item = await self._updates.alone({**update, "ReturnValues": "ALL_NEW"})
        return item if counted else None

    async def _update_mine(self, claim: Claim, change: str, sets: Item) -> Answer:
        return await self._update(claim.job.job_id, change, STILL_MINE, **sets, fence=claim.fence)

    async def _update(self, task_id: str, change: str, condition: str, **values: Any) -> Answer:
        update = _change_of(task_id, change, condition, **values)
        counted, item = await self._updates.alone({**update, "ReturnValues": "ALL_NEW"})
        return Answer(counted, _record(item))

    def _new_item(self, job: Job) -> Item:
        kept_for = LONGEST_WAIT_SECONDS + self._retention_seconds
        return {**new_item(job), "expires_at": int(job.created_at + kept_for)}

    def _end(self, status: Status) -> Item:
        now = self._clock()
        return {
            "status": status.value,
            "finished_at": now,
            "updated_at": int(now),
            "expires_at": int(now + self._retention_seconds),
        }


def is_task_key(task_id: str) -> bool:
    """Whether a task may have this id, be it one of another program's own kind."""
    if not task_id.isprintable() or task_id.startswith(KEYS):
        return False
    return 0 < len(task_id.encode()) <= LONGEST_KEY_BYTES


def _change_of(task_id: str, change: str, condition: str, **values: Any) -> Write:
    return {
        "Key": _key(task_id),
        "UpdateExpression": change,
        "ConditionExpression": condition,
        **spoken({**STATUSES, **values}, change, condition),
    }


def _put(item: Item, condition: str, **values: Any) -> Write:
    return {"Item": to_wire(item), "ConditionExpression": condition, **spoken(values, condition)}


def _key(task_id: str) -> Item:
    return to_wire({"task_id": task_id})


def _record(item: Item | None) -> Record | None:
    return record_of(item) if item else None

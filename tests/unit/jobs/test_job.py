"""A job moves forward only, and a new state is a new value."""

import pytest
from pydantic import ValidationError
from unified_api.jobs.errors import ExecutionFailed, Interrupted, PromptVanished
from unified_api.jobs.job import Job, Output, Rendered, Stage, Status, rfc3339


@pytest.fixture
def job():
    return Job(job_id="a", workflow="draw", parameters={"seed": 1}, due=0.0, created_at=100.0)


@pytest.fixture
def output():
    return Output(name="image", content_type="image/png", size=1, sha256="00")


def test_a_new_job_is_pending_and_due(job):
    assert (job.status, job.stage, job.attempt) == (Status.PENDING, Stage.QUEUED, 0)
    assert job.due is not None


def test_a_job_goes_through_its_stages(job, output, tmp_path):
    rendered = (Rendered(name="image", path=tmp_path / "a.png", sha256="00"),)

    fetching = job.fetching(now=101.0)
    running = fetching.fetched(inputs_ms=500).running(now=103.0)
    publishing = running.publishing(rendered, run_ms=40)
    done = publishing.completed((output,), now=104.0, publish_ms=7)

    shown = [(each.status.value, each.stage) for each in (job, fetching, running, publishing, done)]
    assert shown == [
        ("pending", Stage.QUEUED),
        ("processing", Stage.FETCHING_INPUTS),
        ("processing", Stage.RUNNING),
        ("processing", Stage.PUBLISHING),
        ("completed", None),
    ]
    assert (done.created_at, done.started_at, done.finished_at) == (100.0, 101.0, 104.0)
    assert done.timings.model_dump() == {
        "queued_ms": 2500,
        "inputs_ms": 500,
        "run_ms": 40,
        "publish_ms": 7,
    }
    assert (publishing.rendered, done.rendered, done.outputs) == (rendered, (), (output,))


def test_nobody_else_takes_up_a_job_under_way(job, output):
    running = job.fetching(now=101.0).running(now=102.0)

    assert running.due is None
    assert running.completed((output,), now=1.0, publish_ms=0).due is None
    assert running.failed(ExecutionFailed(), now=1.0).due is None


def test_a_transition_leaves_the_old_value_alone(job):
    job.fetching(now=101.0)

    assert job.status is Status.PENDING
    with pytest.raises(ValidationError):
        job.status = Status.FAILED


def test_a_failed_job_tells_why_in_words_and_for_programs(job):
    failure = ExecutionFailed("It broke.", node_id="3", node_class="KSampler")

    failed = job.fetching(now=101.0).failed(failure, now=102.0)

    assert (failed.status, failed.stage, failed.error) == (Status.FAILED, None, "It broke.")
    assert failed.error_detail.model_dump() == {
        "code": "execution_failed",
        "retryable": False,
        "node_id": "3",
        "node_class": "KSampler",
    }


def test_only_some_failures_are_worth_another_try(job):
    begun = job.fetching(now=101.0)

    assert begun.failed(PromptVanished(), now=102.0).error_detail.retryable
    assert not begun.failed(Interrupted(), now=102.0).error_detail.retryable


def test_a_job_put_back_stays_processing_and_keeps_its_attempts(job):
    again = job.fetching(now=101.0).running(now=102.0).put_back(due=110.0)

    assert (again.status, again.stage, again.attempt) == (Status.PROCESSING, Stage.QUEUED, 1)
    assert again.due == 110.0
    assert again.fetching(now=111.0).started_at == 101.0


FINAL = {
    "completed": lambda job: job.completed((), now=1.0, publish_ms=0),
    "failed": lambda job: job.failed(ExecutionFailed(), now=1.0),
}
MOVES = {
    "fetching": lambda job: job.fetching(now=2.0),
    "fetched": lambda job: job.fetched(inputs_ms=0),
    "running": lambda job: job.running(now=2.0),
    "publishing": lambda job: job.publishing((), run_ms=0),
    "put_back": lambda job: job.put_back(due=2.0),
    **FINAL,
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("end", FINAL.values(), ids=FINAL)
def test_a_final_job_never_changes(job, end, move):
    final = end(job.fetching(now=1.0))

    with pytest.raises(ValueError, match="cannot change"):
        move(final)


@pytest.mark.parametrize("status", Status)
def test_three_statuses_are_final(status):
    assert status.is_final == (status.value in {"completed", "failed", "cancelled"})


def test_each_attempt_has_a_prompt_id_of_its_own_and_the_same_after_a_restart(job):
    ids, now = [], job.fetching(now=101.0)
    for _ in range(4):
        restored = Job.model_validate_json(now.model_dump_json())
        assert restored.next_prompt_id == now.next_prompt_id
        ids.append(now.next_prompt_id)
        now = now.running(now=102.0).put_back(due=0.0)

    other = job.model_copy(update={"job_id": "b"})
    assert len({*ids, other.next_prompt_id}) == 5


def test_a_job_is_the_same_after_it_was_written_and_read(job, output, tmp_path):
    rendered = (Rendered(name="image", path=tmp_path / "ä.png", sha256="00"),)
    written = job.model_copy(update={"parameters": {"seed": 2**64 - 1, "text": "镜头\n"}})

    for each in (
        written,
        written.fetching(now=1.5).running(now=2.0).publishing(rendered, run_ms=1),
        written.completed((output,), now=3.0, publish_ms=0),
        written.failed(ExecutionFailed(node_id="1"), now=3.0),
    ):
        assert Job.model_validate_json(each.model_dump_json()) == each


def test_a_job_with_an_unknown_field_is_not_read(job):
    text = job.model_dump_json().replace('"job_id"', '"colour":"red","job_id"', 1)

    with pytest.raises(ValidationError):
        Job.model_validate_json(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, None),
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.5, "2023-11-14T22:13:20.500Z"),
        (1_700_000_000.4999998, "2023-11-14T22:13:20.499Z"),
        (1_709_164_800.0, "2024-02-29T00:00:00.000Z"),
    ],
)
def test_times_are_shown_in_utc_with_milliseconds(seconds, text):
    assert rfc3339(seconds) == text

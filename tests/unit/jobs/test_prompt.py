"""What ComfyUI tells of a prompt, in words of our own."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unified_api.jobs.errors import DiskFull, ExecutionFailed, Interrupted, OutOfMemory
from unified_api.jobs.prompt import ProgressMeter, failure_of

GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {}, "_meta": {"title": "Load"}},
    "2": {"class_type": "KSampler", "inputs": {}},
    "3": {"class_type": "SaveImage", "inputs": {}, "_meta": {}},
    "4": {"class_type": "PreviewImage", "inputs": {}},
}


def state(node, state, value=0, most=0):
    return {"nodes": {node: {"state": state, "value": value, "max": most}}}


class Clock:
    """Stands still but for what is added to it."""

    now = 0.0

    def __call__(self):
        return self.now


def test_progress_counts_steps_while_no_times_are_known():
    meter = ProgressMeter(GRAPH)

    meter.hear("progress_state", state("1", "finished"))
    meter.hear("progress_state", state("2", "running", 5, 10))

    now = meter.now
    # One step of a node, five of ten of another, and one each of two that are to come.
    assert (now.percent, now.node, now.step, now.steps) == (46, "KSampler", 5, 10)


def test_nodes_weigh_what_they_took_before():
    meter = ProgressMeter(GRAPH, {"1": 2.0, "2": 7.0, "3": 1.0, "4": 0.0})

    meter.hear("progress_state", state("1", "finished"))
    loaded = meter.now.percent
    meter.hear("progress_state", state("2", "running", 5, 10))

    assert (loaded, meter.now.percent) == (20, 55)


def test_a_node_that_never_ran_before_weighs_what_is_usual():
    meter = ProgressMeter(GRAPH, {"1": 2.0, "2": 96.0, "3": 1.0})

    meter.hear("progress_state", state("4", "finished"))

    assert meter.now.percent == int(100 * 2 / 101)


def test_what_is_usual_is_told_by_nodes_that_are_not_mostly_cached():
    meter = ProgressMeter(GRAPH, {"1": 0.0, "2": 0.0, "3": 8.0})

    meter.hear("progress_state", state("4", "finished"))

    assert meter.now.percent == 50


def test_what_each_node_took_is_known_afterwards():
    clock = Clock()
    meter = ProgressMeter(GRAPH, clock=clock)

    meter.hear("execution_cached", {"nodes": ["1"]})
    meter.hear("progress_state", state("2", "running", 0, 2))
    clock.now = 3.0
    meter.hear("progress_state", state("2", "running", 1, 2))
    clock.now = 5.0
    meter.hear("progress_state", state("2", "finished"))
    clock.now = 9.0
    meter.hear("progress_state", state("2", "finished"))
    meter.hear("progress_state", state("of another graph", "finished"))

    assert meter.seconds == {"1": 0.0, "2": 5.0}


def test_it_is_known_since_when_nothing_has_moved():
    clock = Clock()
    meter = ProgressMeter(GRAPH, clock=clock)

    for moment, step in ((1.0, 4), (2.0, 5), (3.0, 5)):
        clock.now = moment
        meter.hear("progress_state", state("2", "running", step, 10))

    assert meter.told_at == 2.0


def test_a_node_is_told_by_its_title_or_else_by_its_class():
    meter, seen = ProgressMeter(GRAPH), []

    for node in GRAPH:
        meter.hear("progress_state", state(node, "running", 0, 1))
        seen.append(meter.now.node)

    assert seen == ["Load", "KSampler", "SaveImage", "PreviewImage"]


def test_a_node_of_a_single_step_shows_no_steps():
    meter = ProgressMeter(GRAPH)

    meter.hear("progress_state", state("2", "running", 0, 1))

    assert (meter.now.step, meter.now.steps) == (None, None)


def test_cached_nodes_count_as_done():
    meter = ProgressMeter(GRAPH)

    meter.hear("execution_cached", {"nodes": ["1", "2", "of another graph"]})

    assert meter.now.percent == 50


def test_a_finished_graph_is_not_complete_before_its_files_are_published():
    meter = ProgressMeter(GRAPH)

    meter.hear("execution_cached", {"nodes": list(GRAPH)})

    assert meter.now.percent == 99


def test_events_that_say_nothing_change_nothing():
    meter = ProgressMeter(GRAPH)
    before = meter.now

    for event in ("status", "executing", "execution_start", "progress", "progress_state"):
        meter.hear(event, {})
    meter.hear("execution_cached", {"nodes": None})

    assert meter.now == before


nodes = st.sampled_from([*GRAPH, "7", "1:2"])
states = st.fixed_dictionaries(
    {"state": st.sampled_from(["pending", "running", "finished", "error"])},
    optional={
        "value": st.none() | st.integers(0, 30) | st.floats(0, 30),
        "max": st.none() | st.integers(0, 30),
    },
)
events = st.tuples(
    st.just("progress_state"), st.fixed_dictionaries({"nodes": st.dictionaries(nodes, states)})
) | st.tuples(st.just("execution_cached"), st.fixed_dictionaries({"nodes": st.lists(nodes)}))


times = st.dictionaries(nodes, st.floats(0, 1000))


@given(st.lists(events), times)
def test_the_percentage_never_falls_and_never_reaches_the_end(heard, seconds):
    meter, seen = ProgressMeter(GRAPH, seconds), [0]

    for event, data in heard:
        meter.hear(event, data)
        seen.append(meter.now.percent)

    assert seen == sorted(seen)
    assert seen[-1] <= 99


NODE = {"node_id": "3", "node_type": "KSampler"}
ERROR = ("execution_error", {**NODE, "exception_type": "ValueError", "exception_message": "/a/b"})
MEMORY = ("execution_error", {**NODE, "exception_type": "torch.OutOfMemoryError"})
CUDA_MEMORY = ("execution_error", {**NODE, "exception_type": "torch.cuda.OutOfMemoryError"})
FULL = (
    "execution_error",
    {
        **NODE,
        "exception_type": "OSError",
        "exception_message": f"[Errno 28] {os.strerror(errno.ENOSPC)}",
    },
)
OUT_OF_FILES = (
    "execution_error",
    {
        **NODE,
        "exception_type": "OSError",
        "exception_message": f"[Errno 24] {os.strerror(errno.EMFILE)}: '/a/b.png'",
    },
)
INTERRUPTED = ("execution_interrupted", NODE)
START = ("execution_start", {})
SUCCESS = ("execution_success", {})


@pytest.mark.parametrize(
    ("status", "messages", "kind"),
    [
        ("success", [START, SUCCESS], None),
        ("success", [], None),
        ("error", [START, ERROR], ExecutionFailed),
        ("error", [START, MEMORY], OutOfMemory),
        ("error", [START, CUDA_MEMORY], OutOfMemory),
        ("error", [START, FULL], DiskFull),
        ("error", [START, OUT_OF_FILES], DiskFull),
        ("error", [START, INTERRUPTED], Interrupted),
        ("error", [], ExecutionFailed),
        ("error", [START], ExecutionFailed),
        # A failure before the first node leaves the status of the prompt before.
        ("success", [START, ERROR], ExecutionFailed),
        ("success", [START, INTERRUPTED], Interrupted),
    ],
)
def test_a_failure_is_told_by_the_last_message_beside_the_status(status, messages, kind):
    failure = failure_of(status, messages)

    assert type(failure) is (kind or type(None))


@pytest.mark.parametrize("message", [ERROR, MEMORY, FULL, OUT_OF_FILES, INTERRUPTED])
def test_a_failure_names_its_node_and_none_of_the_details(message):
    failure = failure_of("error", [message])

    assert (failure.node_id, failure.node_class) == ("3", "KSampler")
    assert "/a/b" not in str(failure)


def test_a_failure_names_the_kind_of_the_exception():
    assert "ValueError" in str(failure_of("error", [ERROR]))


def test_an_error_without_any_detail_is_still_a_failure():
    failure = failure_of("error", [("execution_error", {})])

    assert isinstance(failure, ExecutionFailed)
    assert failure.node_id is None

"""The tree of errors: each tells what happened, and has its place in HTTP."""

import re

import pytest
from unified_api.jobs import errors
from unified_api.routes.problems import STATUS, status_of
from unified_api.workflows import Violation


def below(kind):
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


def made(kind):
    is_about_parameters = issubclass(kind, errors.InvalidParameters)
    return kind([Violation("a", "/a", "a is wrong.")]) if is_about_parameters else kind()


#: Those of the tree's own file; errors of other files are tested beside them.
TREE = [kind for kind in below(errors.UnifiedApiError) if kind.__module__ == errors.__name__]
REFUSALS = [kind for kind in TREE if issubclass(kind, errors.RequestRefused)]
FAILURES = [kind for kind in TREE if issubclass(kind, errors.JobFailed)]

every_error = pytest.mark.parametrize("kind", TREE)


@every_error
def test_the_docstring_is_the_default_message(kind):
    message = str(made(kind))

    assert "__doc__" in vars(kind)
    assert message[0].isupper()
    assert message.endswith((".", ")"))
    assert "\n " not in message


@pytest.mark.parametrize("kind", [errors.QueueFull, errors.ExecutionFailed])
def test_a_message_of_its_own_replaces_the_default(kind):
    assert str(kind("No room for {}.")) == "No room for {}."


def test_every_error_has_a_code_of_its_own():
    codes = [kind.code for kind in TREE if kind is not errors.Unfit]

    assert len(set(codes)) == len(codes)
    assert all("code" in vars(kind) and re.fullmatch("[a-z_]+", kind.code) for kind in TREE)


def test_the_drawing_shows_every_error():
    drawn = re.findall(r"\b[A-Z]\w+", errors.__doc__.split("\n\n", 1)[1])

    assert {kind.__name__ for kind in TREE} <= set(drawn)


@pytest.mark.parametrize("kind", [each for each in REFUSALS if not each.__subclasses__()])
def test_every_refusal_has_an_http_status(kind):
    assert 400 <= status_of(made(kind)) < 600
    assert status_of(made(kind)) != 500


def test_the_table_of_statuses_holds_only_errors_of_the_tree():
    assert set(STATUS) <= set(below(errors.UnifiedApiError))


def test_an_error_has_the_status_of_its_nearest_ancestor():
    class QueueOfOneUserFull(errors.QueueFull):
        """You have too many jobs waiting."""

    class Surprise(errors.UnifiedApiError):
        """Nobody expected this."""

    assert status_of(QueueOfOneUserFull()) == 429
    assert status_of(Surprise()) == 500


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_knows_its_node_and_whether_another_run_may_help(kind):
    failure = kind(node_id="3", node_class="KSampler")

    assert (failure.node_id, failure.node_class) == ("3", "KSampler")
    assert failure.retryable == (kind.retries > 0)


def test_failures_that_would_only_repeat_are_not_retried():
    lasting = {
        errors.InputInvalid,
        errors.WorkflowInvalid,
        errors.ExecutionFailed,
        errors.Interrupted,
        errors.TimedOut,
        errors.CrashLoop,
        errors.NoOutput,
        errors.InternalError,
    }

    assert [kind for kind in lasting if kind.retries] == []
    assert errors.PromptVanished.retries
    assert errors.OutOfMemory.retries == 1

"""The servers that `install.sh` starts end with it, whatever happens."""

from __future__ import annotations

import os
import sys

import pytest
from unified_api.deploy.comfyui.process import is_up, serving
from unified_api.deploy.comfyui.report import Failure

from tests.common.ports import free_port


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def call(port: int) -> list[str]:
    module = ["-u", "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    return [sys.executable, *module]


@pytest.fixture
def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/"


def test_a_server_is_up_in_its_block_and_gone_behind_it(call: list[str], url: str) -> None:
    with serving("stub", call, probe=url, environment=os.environ):
        was_up = is_up(url)

    assert was_up
    assert not is_up(url)


@pytest.mark.parametrize("end", [Failure("no"), KeyboardInterrupt(), ValueError()])
def test_a_server_is_gone_however_its_block_ends(
    call: list[str], url: str, end: BaseException
) -> None:
    with pytest.raises(type(end)), serving("stub", call, probe=url, environment=os.environ):
        raise end

    assert not is_up(url)


def test_a_failure_shows_what_the_server_said(call: list[str], url: str) -> None:
    with (
        pytest.raises(Failure, match="no job") as failure,
        serving("stub", call, probe=url, environment=os.environ),
    ):
        raise Failure("no job")

    assert "Serving HTTP" in failure.value.details


def test_a_server_that_ends_while_it_starts_is_a_failure_with_its_last_words(url: str) -> None:
    call = [sys.executable, "-c", "print('no room'); raise SystemExit(1)"]

    with (
        pytest.raises(Failure, match="Stub ended") as failure,
        serving("Stub", call, probe=url, environment=os.environ),
    ):
        pass

    assert failure.value.details == "no room"

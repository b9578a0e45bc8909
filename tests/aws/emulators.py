"""Servers that speak S3, SQS and DynamoDB, each a process of its own on a free local port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3

from tests.common.ports import HOST, free_port

START_SECONDS = 60.0
REGION = "us-east-1"
#: The signatures of URLs are checked against these.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


class Emulator:
    """A running server. `url` is its endpoint."""

    def __init__(self, module: Sequence[str], folder: Path, *, port_option: str = "") -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        options = ["-H", HOST, port_option, str(self.port)] if port_option else []
        # Told by options to one, by variables to the other, which would listen everywhere.
        environment = {"BIND_HOST": HOST, "GATEWAY_PORT": str(self.port), "TMPDIR": str(folder)}
        environment |= CREDENTIALS
        self._log = folder / "log.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *module, *options],
                env={**os.environ, **environment},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait()

    @cached_property
    def s3(self) -> Any:
        return self._client("s3")

    @cached_property
    def sqs(self) -> Any:
        return self._client("sqs")

    @cached_property
    def dynamodb(self) -> Any:
        return self._client("dynamodb")

    def stop(self) -> None:
        for client in (self.s3, self.sqs, self.dynamodb):
            client.close()
        self._process.terminate()
        self._process.wait(START_SECONDS)

    def _client(self, service: str) -> Any:
        """Straight to it."""
        names = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, region_name=REGION, endpoint_url=self.url, **names)

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while not _listens(self.port):
            if self._process.poll() is not None or time.monotonic() > until:
                self._process.kill()
                raise RuntimeError(f"the emulator did not start:\n{self._log.read_text()}")
            time.sleep(0.05)


def start_moto(folder: Path) -> Emulator:
    server = Path(__file__).with_name("moto_server.py")
    return Emulator([str(server)], folder, port_option="-p")


def start_ministack(folder: Path) -> Emulator:
    return Emulator(["-c", "from ministack.app import main; main()"], folder)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0

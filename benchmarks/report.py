"""Tables of what was measured, in Markdown."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import PIL
from torch import __version__ as torch_version

from .bench import VERSION
from .measure import Load, Times, middle, percentile

COLUMNS = (
    "system",
    "batch wall",
    "gap between GPU runs p50",
    "gap p95",
    "one job beyond GPU time p50",
    "POST p50 idle / busy, p99",
    "status p50 idle / busy, p99",
    "health p99",
)


def machine() -> str:
    """What this ran on, and when."""
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    versions = f"ComfyUI {VERSION}, Python {platform.python_version()}"
    libraries = f"torch {torch_version}, Pillow {PIL.__version__}"
    return f"{day}; {os.cpu_count()} cores ({model}); {versions}, {libraries}."


def table(load: Load, found: Mapping[str, Times], *, jobs: int, encode_ms: float) -> str:
    """A row for each system; times in ms, and in brackets as parts of the first row's.

    `encode_ms` is what SaveImage takes for a picture.
    """
    rounds = len(next(iter(found.values())).walls)
    title = f"### {jobs} jobs of {load}"
    plain = next(iter(found))
    note = (
        f"Milliseconds, medians ({rounds} x {jobs} jobs, by turns); in brackets x {plain}."
        f" To encode a picture SaveImage alone takes {encode_ms:.0f} ms."
    )
    least = load.milliseconds * jobs
    share = least / middle(found[plain].walls)
    gpu = row(["the GPU's time alone", f"{least} ({share:.2f})", *[""] * (len(COLUMNS) - 2)])
    lines = [row(COLUMNS), row(["---"] * len(COLUMNS)), *rows(list(found.items())), gpu]
    return "\n".join([title, "", note, "", *lines, ""])


def rows(found: Sequence[tuple[str, Times]]) -> Iterator[str]:
    _, plain = found[0]
    for name, times in found:
        yield row(
            [
                name,
                _walls(times, plain),
                _compared(middle(times.gaps), middle(plain.gaps)),
                _compared(percentile(times.gaps, 95), percentile(plain.gaps, 95)),
                _compared(middle(times.beyond), middle(plain.beyond)),
                _answers(times.idle_posts, times.busy_posts),
                _answers(times.idle_reads, times.busy_reads),
                f"{percentile(times.health, 99):.0f}",
            ]
        )


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _walls(times: Times, plain: Times) -> str:
    """Round by round: what slows one down slows down the other."""
    ratios = [ours / theirs for ours, theirs in zip(times.walls, plain.walls, strict=True)]
    spread = f", {min(ratios):.2f} to {max(ratios):.2f}" if times is not plain else ""
    return f"{middle(times.walls):.0f} ({median(ratios):.2f}{spread})"


def _compared(value: float, plain: float) -> str:
    return f"{value:.0f} ({value / plain:.2f})"


def _answers(idle: Sequence[float], busy: Sequence[float]) -> str:
    return f"{middle(idle):.0f} / {middle(busy):.0f}, {percentile(busy, 99):.0f}"

"""What the benchmarks print, and the world that they measure in; no times of this machine."""

import re

import pytest

from benchmarks.bench import Task
from benchmarks.far_away import application
from benchmarks.measure import Load, Times
from benchmarks.report import table
from benchmarks.systems import body_of, graph_of


def times(walls, *, gap, post, read, health, beyond):
    """Of a system that always takes the same; `post` is (idle, busy)."""
    idle_post, busy_post = post
    return Times(
        walls=walls,
        gaps=[gap] * 10,
        busy_posts=[busy_post] * 3,
        busy_reads=[read] * 3,
        health=[health] * 3,
        beyond=[beyond] * 2,
        idle_posts=[idle_post],
        idle_reads=[read],
    )


PLAIN = times([2.0, 4.0], gap=0.2, post=(0.002, 0.003), read=0.001, health=0.001, beyond=0.4)
OURS = times([1.0, 3.0], gap=0.02, post=(0.004, 0.006), read=0.002, health=0.009, beyond=0.3)


def test_a_table_shows_times_and_how_they_compare():
    text = table(Load(100), {"plain": PLAIN, "ours": OURS}, jobs=10, encode_ms=150)

    *_, plain, ours, gpu = [re.split(r" *\| *", line) for line in text.strip().splitlines()]
    assert plain[1:3] == ["plain", "3000 (1.00)"]
    # Round by round: 0.5 and 0.75.
    assert ours[1:6] == [
        "ours",
        "2000 (0.62, 0.50 to 0.75)",
        "20 (0.10)",
        "20 (0.10)",
        "300 (0.75)",
    ]
    assert ours[6:9] == ["4 / 6, 6", "2 / 2, 2", "9"]
    assert gpu[1:3] == ["the GPU's time alone", "1000 (0.33)"]
    assert "To encode a picture SaveImage alone takes 150 ms" in text


@pytest.mark.parametrize("number", [1, 2, 3])
def test_both_ways_ask_for_the_same(number):
    task = Task(("a.jpg", "b.jpg", "c.jpg")[:number], 500, 7)

    graph, body = graph_of(task), body_of(task, "http://far")

    loaded = [n["inputs"]["image"] for n in graph.values() if n["class_type"] == "LoadImage"]
    fetched = [url for name, url in body.items() if name.startswith("image")]
    assert loaded == list(task.pictures)
    assert fetched == [f"http://far/pictures/{name}" for name in task.pictures]
    assert {body["milliseconds"], body["seed"]} == {500, 7}
    assert (graph["4"]["inputs"]["milliseconds"], graph["4"]["inputs"]["seed"]) == (500, 7)


async def test_what_is_far_away_keeps_what_it_is_given(aiohttp_client, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a picture")
    far = await aiohttp_client(application(tmp_path))

    assert await (await far.get("/pictures/a.jpg")).read() == b"a picture"
    assert (await far.head("/results")).status == 200
    assert (await far.get("/results/a")).status == 404
    assert (await far.put("/results/a", data=b"an object")).status == 200
    assert await (await far.get("/results/a")).read() == b"an object"

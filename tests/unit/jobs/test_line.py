"""Where each waiting job stands."""

import random

from hypothesis import given
from hypothesis import strategies as st
from unified_api.jobs.line import Line, Waiting, head

HIGH, NORMAL = 0, 1


def before(line, job_id):
    return line.before(line.turn(job_id)).total()


def line_of(*jobs):
    line = Line()
    for job in jobs:
        line.join(Waiting(*job))
    return line


def test_jobs_stand_in_the_order_of_their_arrival():
    line = line_of(("a", "draw", NORMAL), ("b", "edit", NORMAL), ("c", "draw", NORMAL))

    assert [before(line, each) for each in "abc"] == [0, 1, 2]
    assert line.before(line.turn("c")) == {"draw": 1, "edit": 1}


def test_high_priority_stands_before_normal():
    line = line_of(("n", "draw", NORMAL), ("h", "draw", HIGH), ("m", "draw", NORMAL))

    assert [before(line, each) for each in "hnm"] == [0, 1, 2]
    assert line.before(head(NORMAL)).total() == 1


def test_who_leaves_moves_all_behind_him():
    line = line_of(("a", "draw", NORMAL), ("b", "draw", NORMAL), ("c", "draw", NORMAL))

    for _ in range(2):
        line.leave("b")

    assert (before(line, "c"), line.turn("b"), len(line)) == (1, None, 2)


def test_who_is_put_back_stands_before_all_of_his_rank():
    line = line_of(("h", "draw", HIGH), ("a", "draw", NORMAL), ("b", "draw", NORMAL))

    line.rejoin(Waiting("back", "edit", NORMAL))

    assert [before(line, each) for each in ("h", "back", "a", "b")] == [0, 1, 2, 3]


def test_who_is_there_twice_stands_once():
    line = line_of(("a", "draw", NORMAL), ("b", "draw", NORMAL), ("a", "draw", NORMAL))

    assert ([before(line, each) for each in "ba"], len(line)) == ([0, 1], 2)


jobs = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["draw", "edit"]), st.sampled_from([0, 1])),
    unique_by=lambda job: job[0],
)


@given(jobs, st.randoms(use_true_random=False))
def test_everybody_knows_how_many_are_before_him_of_each_workflow(given, chance: random.Random):
    line = line_of(*given)
    gone = [job for job in given if chance.random() < 0.3]
    for job_id, *_ in gone:
        line.leave(job_id)

    there = sorted((job for job in given if job not in gone), key=lambda job: job[2])
    for number, (job_id, *_) in enumerate(there):
        ahead = line.before(line.turn(job_id))
        assert {name: n for name, n in ahead.items() if n} == {
            name: n
            for name in ("draw", "edit")
            if (n := sum(job[1] == name for job in there[:number]))
        }

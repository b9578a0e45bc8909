"""How long workflows take, by what they took."""

from unified_api.jobs.estimates import RUNS, Estimates


def learnt(*runs):
    """Of `draw`: runs as seconds, or as seconds with those of the nodes."""
    estimates = Estimates()
    for run in runs:
        estimates.learn("draw", *(run if isinstance(run, tuple) else (run,)))
    return estimates


def test_nothing_is_known_at_first_nor_of_other_workflows():
    assert Estimates().run_seconds("draw") is None
    assert Estimates().node_seconds("draw") == {}
    assert learnt((1.0, {"1": 1.0})).run_seconds("edit") is None
    assert learnt((1.0, {"1": 1.0})).node_seconds("edit") == {}


def test_one_slow_run_changes_little():
    estimates = learnt((2.0, {"1": 1.0}), (3.0, {"1": 2.0}), (900.0, {"1": 800.0}))

    assert estimates.run_seconds("draw") == 3.0
    assert estimates.node_seconds("draw") == {"1": 2.0}


def test_old_runs_are_forgotten():
    estimates = learnt(*[(900.0, {"1": 800.0, "old": 1.0})] * RUNS, *[(1.0, {"1": 0.5})] * RUNS)

    assert estimates.run_seconds("draw") == 1.0
    assert estimates.node_seconds("draw") == {"1": 0.5}


def test_a_node_that_is_mostly_cached_takes_nothing():
    estimates = learnt((60.0, {"1": 50.0}), (10.0, {"1": 0.0}))

    assert estimates.node_seconds("draw") == {"1": 0.0}


def test_runs_whose_nodes_are_not_known_count_as_runs():
    estimates = learnt(4.0, (6.0, {"1": 5.0}))

    assert estimates.run_seconds("draw") == 5.0
    assert estimates.node_seconds("draw") == {"1": 5.0}

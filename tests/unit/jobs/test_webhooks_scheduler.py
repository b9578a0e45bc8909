"""Whose webhook is sent next, and which have to wait."""

import pytest
from unified_api.jobs.egress.guard import site_of
from unified_api.jobs.notify.outbox import Due
from unified_api.jobs.notify.scheduler import MOST_RECEIVERS, Kind, Limits, Scheduler

NUMBERS = iter(range(10**6))


def due(tenant="alice", site="https://a.example"):
    return Due(next(NUMBERS), tenant, site)


@pytest.fixture
def scheduler():
    return Scheduler(Limits())


def began(scheduler, dues):
    """Those of them that may be under way together."""
    found = []
    for each in dues:
        if scheduler.admits(each):
            scheduler.begin(each)
            found.append(each)
    return found


def tried(scheduler, *dues, seconds=0.1, has_answered=True):
    for each in dues:
        scheduler.begin(each)
        scheduler.note(each, seconds=seconds, has_answered=has_answered)
        scheduler.end(each)


def of_sites(count, tenant="alice"):
    return [due(tenant, f"https://{number}.example") for number in range(count)]


def test_who_was_served_longest_ago_is_next(scheduler):
    tried(scheduler, due("b"), due("a"), due("c"), due("b"))

    found = scheduler.in_turn([due("a"), due("b"), due("c"), due("new")])

    assert [each.tenant for each in found] == ["new", "a", "c", "b"]


def test_nothing_is_sent_twice_at_a_time(scheduler):
    one = due()
    scheduler.begin(one)

    assert not scheduler.admits(one)
    scheduler.end(one)
    assert scheduler.admits(one)


def test_a_tenant_has_its_share_of_each_kind(scheduler):
    slow, new, good = of_sites(40), of_sites(80)[40:], of_sites(120)[80:]
    tried(scheduler, *slow, seconds=5)
    tried(scheduler, *good)

    counts = [len(began(scheduler, each)) for each in (slow, new, good)]

    assert counts == [4, 8, 4]


def test_all_tenants_together_have_their_share_of_each_kind():
    scheduler = Scheduler(Limits(per_site=1000))
    tenants = [f"t{number}" for number in range(40)]
    slow, new, good = ([due(t, f"https://{kind}.example") for t in tenants] for kind in "abc")
    tried(scheduler, *slow, seconds=5)
    tried(scheduler, *good)

    counts = [len(began(scheduler, each)) for each in (slow, new, good)]

    assert counts == [16, 32, 16]


def test_a_site_has_its_share_whoever_wants_it(scheduler):
    wanted = [due(f"t{number % 4}") for number in range(40)]
    tried(scheduler, *wanted)

    assert len(began(scheduler, wanted)) == Limits().per_site


def test_half_of_a_site_is_for_others_than_the_tenant_that_uses_it_most(scheduler):
    wanted = [due("mallory") for _ in range(40)]
    tried(scheduler, *wanted)

    assert len(began(scheduler, wanted)) == Limits().per_site // 2
    assert scheduler.admits(due("alice"))


def test_how_a_site_answers_one_tenant_says_nothing_of_another(scheduler):
    tried(scheduler, due("mallory"), seconds=15, has_answered=False)
    limits = Limits()

    counts = [len(began(scheduler, [due(t) for _ in range(9)])) for t in ("mallory", "alice")]

    assert counts == [limits.of_receiver(Kind.SLOW), limits.of_receiver(Kind.NEW)]


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ({"seconds": 15.0, "has_answered": False}, Kind.SLOW),
        ({"seconds": 14.0, "has_answered": True}, Kind.SLOW),
        ({"seconds": 0.1, "has_answered": True}, Kind.ANSWERING),
        ({"seconds": 0.1, "has_answered": False}, Kind.NEW),
    ],
)
def test_the_last_try_says_what_kind_of_receiver_it_is(scheduler, last, kind):
    for before in ({"seconds": 9.0, "has_answered": False}, {"seconds": 0.0, "has_answered": True}):
        tried(scheduler, due(), **before)
        tried(scheduler, due(), **last)

        under_way = began(scheduler, [due() for _ in range(9)])

        assert len(under_way) == Limits().of_receiver(kind)
        for each in under_way:
            scheduler.end(each)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_with_few_places_each_kind_has_one(total):
    limits = Limits(total=total, per_tenant=1, per_site=1, slow=1, reserved=99)

    for kind in Kind:
        scheduler = Scheduler(limits)
        one = due()
        if kind is not Kind.NEW:
            tried(scheduler, one, seconds=9 if kind is Kind.SLOW else 0)
        assert scheduler.admits(one)


def test_only_so_many_receivers_are_remembered(scheduler):
    tried(scheduler, *of_sites(3 * MOST_RECEIVERS), seconds=5)

    (slow,) = (each.only_receivers for each in scheduler.filters() if each.only_receivers)

    assert len(slow) == MOST_RECEIVERS


@pytest.mark.parametrize(
    "url",
    [
        "https://A.example/hook",
        "https://a.example:443/other?b=1",
        "https://a.example?1",
        "https://a.example#1",
        "HTTPS://a.EXAMPLE",
    ],
)
def test_a_host_is_one_site_however_it_is_written(url):
    assert site_of(url) == "https://a.example"


def test_an_address_is_one_site_however_it_is_written():
    assert site_of("http://[2606:4700:0::1]/") == site_of("http://[2606:4700::1]:80/x")
    assert site_of("http://[2606:4700::1]:8080/x") == "http://[2606:4700::1]:8080"


@pytest.mark.parametrize("url", ["ftp://A/b", "http://[", "", "a b", "https://user@A.example/x"])
def test_what_is_no_url_has_a_site_too(url):
    assert isinstance(site_of(url), str)

"""Renewals by themselves: what is due, what is too dear, and what is left alone."""

from indexer.registrar.work.renewals import ALL, Lapsing, names_due

SOON = Lapsing("soon.id", renewed_at=500, expires_at=1_050, gone_at=1_100, price=2_500)
LATE = Lapsing("late.id", renewed_at=500, expires_at=5_000, gone_at=5_100, price=2_500)
GRACE = Lapsing("grace.id", renewed_at=500, expires_at=990, gone_at=1_001, price=2_500)
DEAR = Lapsing("dear.id", renewed_at=500, expires_at=1_010, gone_at=1_200, price=90_000)
OURS = (LATE, SOON, DEAR, GRACE)


def due(height: int = 1_000, **changes: object) -> tuple[list[str], list[str]]:
    terms = {"wanted": (ALL,), "within": 100, "ceiling": 10_000, **changes}
    found = names_due(OURS, height, **terms)
    return list(found.now), [one.name for one in found.too_dear]


def test_what_lapses_soonest_is_renewed_first_and_what_is_too_dear_is_told():
    assert due() == (["grace.id", "soon.id"], ["dear.id"])


def test_nothing_is_renewed_that_nobody_asked_for():
    assert due(wanted=()) == ([], [])
    assert due(wanted=("soon.id", "other.id")) == (["soon.id"], [])


def test_a_name_with_something_under_way_is_left_alone():
    assert due(busy={"soon.id"}) == (["grace.id"], ["dear.id"])


def test_a_name_that_is_gone_is_not_renewed():
    assert due(height=1_001)[0] == ["soon.id"]


def test_the_price_that_is_just_allowed_is_paid():
    assert due(ceiling=90_000) == (["grace.id", "soon.id", "dear.id"], [])
    assert due(ceiling=2_499) == ([], ["grace.id", "soon.id", "dear.id"])


def test_a_name_of_a_short_life_is_renewed_when_half_of_it_is_over_and_not_again_and_again():
    renewed, paid = 0, 0
    for height in range(400):
        name = Lapsing("brief.id", renewed, renewed + 100, renewed + 120, 2_500)
        if names_due([name], height, wanted=(ALL,), within=8_640, ceiling=10_000).now:
            renewed, paid = height, paid + 1
    assert paid == 7

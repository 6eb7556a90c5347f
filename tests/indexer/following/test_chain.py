"""Plans: our blocks against the node's, as steps."""

import pytest

from indexer.following.chain import Connect, ForkTooDeep, TakeBack, plan


def chain(*marks: str, start: int = 10) -> dict[int, bytes]:
    """Heights from ``start`` on, each with a block named by a letter."""
    return {start + n: mark.encode() * 32 for n, mark in enumerate(marks)}


def steps(ours: dict[int, bytes], theirs: dict[int, bytes], undo_blocks: int = 144) -> str:
    """A plan as text: ``-12 +12c``."""
    words = []
    for step in plan(ours, theirs, 10, undo_blocks):
        if isinstance(step, TakeBack):
            words.append(f"-{step.height}")
        else:
            assert isinstance(step, Connect)
            words.append(f"+{step.height}{chr(step.block_hash[0])}")
    return " ".join(words)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({}, {}, ""),
        ({}, chain("a", "b"), "+10a +11b"),
        (chain("a", "b"), chain("a", "b"), ""),
        (chain("a", "b"), chain("a", "b", "c"), "+12c"),
        (chain("a", "b"), chain("a", "x", "y"), "-11 +11x +12y"),
        (chain("a", "b", "c"), chain("a", "x"), "-12 -11 +11x"),
        (chain("a", "b"), chain("x", "y"), "-11 -10 +10x +11y"),
        (chain("b", start=11), chain("b", "c", start=11), "+12c"),
    ],
)
def test_a_plan_takes_back_to_the_fork_and_connects_to_the_target(
    ours: dict[int, bytes], theirs: dict[int, bytes], expected: str
) -> None:
    assert steps(ours, theirs) == expected


def test_a_node_that_is_behind_us_takes_nothing_back() -> None:
    assert steps(chain("a", "b", "c"), chain("a", "b")) == ""


def test_a_fork_below_the_undo_is_refused() -> None:
    with pytest.raises(ForkTooDeep):
        plan(chain("b", "c", start=11), chain("x", "y", start=11), 10, 144)
    with pytest.raises(ForkTooDeep):
        plan(chain("a", "b", "c"), chain("a", "x", "y"), 10, 1)

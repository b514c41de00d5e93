"""The intervals hold what they promise, checked against published numbers and by adding up every possible outcome."""

import math
from itertools import product

import pytest

from sestet.cli.evaluation.statistics import Difference, Share, paired_difference


@pytest.mark.parametrize(
    ("successes", "of", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I: the score method.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_share_is_wilsons(successes: int, of: int, low: float, high: float) -> None:
    share = Share(successes, of)

    assert (low, high) == (round(share.low, 4), round(share.high, 4))


def test_an_interval_reaches_its_end_where_all_or_none_succeed() -> None:
    assert (0.0, 1.0) == (Share(0, 7).low, Share(7, 7).high)


def test_of_none_nothing_is_known() -> None:
    share = Share(0, 0)

    assert math.isnan(share.rate)
    assert (0.0, 1.0) == (share.low, share.high)


def pairs(both: int, lost: int, gained: int, neither: int) -> list[tuple[bool, bool]]:
    return [(True, True)] * both + [(True, False)] * lost + [(False, True)] * gained + [(False, False)] * neither


def difference(both: int, lost: int, gained: int, neither: int) -> Difference:
    found = paired_difference(pairs(both, lost, gained, neither))
    assert found is not None
    return found


def test_of_no_pairs_there_is_no_difference() -> None:
    assert paired_difference([]) is None


def test_the_difference_counts_what_was_gained_and_lost() -> None:
    found = difference(30, 5, 15, 50)

    assert (100, 15, 5, 0.1) == (found.pairs, found.gained, found.lost, found.value)


@pytest.mark.parametrize(
    ("gained", "lost", "p"), [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (8, 1, 0.0390625), (3, 3, 1.0)]
)
def test_the_test_of_mcnemar_is_exact(gained: int, lost: int, p: float) -> None:
    assert p == difference(10, lost, gained, 10).p


def test_exchanging_the_modes_turns_the_difference_round() -> None:
    one, other = difference(12, 3, 9, 6), difference(12, 9, 3, 6)

    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


def test_pairs_that_go_together_make_the_interval_narrower() -> None:
    together, apart = difference(40, 5, 15, 40), difference(20, 25, 35, 20)

    assert together.value == apart.value
    assert together.high - together.low < apart.high - apart.low


def test_no_change_at_all_is_still_not_certain() -> None:
    found = difference(10, 0, 0, 10)

    assert found.low < 0.0 < found.high


@pytest.mark.parametrize("chances", [(0.4, 0.1, 0.2, 0.3), (0.1, 0.05, 0.25, 0.6), (0.05, 0.05, 0.05, 0.85)])
def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says(chances: tuple[float, ...]) -> None:
    count = 20
    truth = chances[2] - chances[1]
    held = 0.0
    for both, lost, gained in product(range(count + 1), repeat=3):
        neither = count - both - lost - gained
        if neither < 0:
            continue
        cells = (both, lost, gained, neither)
        found = difference(*cells)
        if found.low <= truth <= found.high:
            held += (
                math.factorial(count)
                / math.prod(map(math.factorial, cells))
                * math.prod(chance**cell for chance, cell in zip(chances, cells, strict=True))
            )

    assert 0.94 < held < 0.999

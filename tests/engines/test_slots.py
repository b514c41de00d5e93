"""Which place a prompt gets: the one that holds most of it, of the same tenant only (T37)."""

import random

from sestet.engines.slots import Places, common_length

A, B = tuple(range(100)), tuple(range(1_000, 1_100))


def used(places: Places, tenant: str, prompt: tuple[int, ...]) -> int:
    """The place that a request computed this prompt in."""
    number = places.take(tenant, prompt)
    places[number].holds(tenant, prompt)
    places.give_back(number)
    return number


def test_a_prompt_goes_where_its_beginning_is() -> None:
    places = Places(3)
    first, second = used(places, "one", A), used(places, "one", B)

    assert [first, second, first] == [used(places, "one", prompt) for prompt in (A + B, B + A, A[:50])]


def test_empty_places_come_first_and_then_those_that_were_not_used_for_longest() -> None:
    places = Places(3)

    assert [0, 1, 2, 0, 1] == [used(places, "one", (number, 7, 7)) for number in range(5)]


def test_what_is_nobodys_goes_before_what_somebody_may_use_again() -> None:
    places = Places(3)
    taken = [places.take("one", (number, 7, 7)) for number in range(3)]
    for number in taken[:2]:
        places[number].holds("one", (number, 7, 7))
    for number in reversed(taken):
        places.give_back(number)

    assert taken[2] == places.take("two", A)


def test_another_tenants_place_holds_nothing_for_one() -> None:
    places = Places(2)
    used(places, "one", A)

    assert 1 == used(places, "two", A)
    assert [100, 0, 0, 100] == [places.usable(number, tenant, A) for number in (0, 1) for tenant in ("one", "two")]


def test_a_place_that_is_taken_is_given_to_nobody_else() -> None:
    places = Places(2)
    used(places, "one", A)
    taken = [places.take("one", A), places.take("one", A)]

    assert [0, 1] == taken


def test_a_short_beginning_in_common_does_not_cost_a_long_conversation() -> None:
    places = Places(2)
    long = used(places, "one", A + B)

    assert long != used(places, "one", A[:30] + B * 2)


def test_a_snapshot_is_needed_only_where_less_is_there_than_it_holds() -> None:
    places = Places(2)
    used(places, "one", A)

    assert [0, 1] == [places.take("one", A + B, least=100), places.take("one", A + B, least=101)]


def test_a_new_engine_holds_nothing_and_what_was_noted_late_is_of_the_old_one() -> None:
    places = Places(2)
    used(places, "one", A)
    taken = places.take("one", B)
    late = places[taken]
    places.forget()
    late.holds("one", B)
    places.give_back(taken)

    assert [0, 0] == [places.usable(0, "one", A), places.usable(taken, "one", B)]
    assert {0, 1} == {places.take("one", A), places.take("one", B)}


def test_a_state_that_cannot_be_cut_serves_only_what_goes_on_from_its_end() -> None:
    places = Places(1)
    places.cuts = False
    places[0].holds("one", A, ends_there=True)
    going_on, equal, shorter = (places.usable(0, "one", prompt) for prompt in (A + B, A, A[:50] + B))
    places[0].holds("one", A, ends_there=False)

    assert (100, 0, 0) == (going_on, equal, shorter)
    assert 0 == places.usable(0, "one", A + B)


def test_what_two_prompts_share_is_counted_to_the_token() -> None:
    source = random.Random(6)
    for _ in range(2_000):
        one = tuple(source.choices(range(3), k=source.randrange(400)))
        shared = source.randrange(len(one) + 1)
        other = one[:shared] + tuple(source.choices(range(3, 6), k=source.randrange(400)))

        assert shared == common_length(one, other) == common_length(other, one)

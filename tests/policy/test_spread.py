"""The smooth weighted order."""

from math import gcd

from hypothesis import given
from hypothesis import strategies as st

from enginehouse.policy.spread import MAX_ORDER, smooth

WEIGHTS = st.lists(st.integers(1, 50), min_size=1, max_size=12).map(tuple)


@given(WEIGHTS)
def test_each_index_comes_as_often_as_its_weight_says(weights: tuple[int, ...]) -> None:
    order = smooth(weights)
    common = gcd(*weights)
    assert [list(order).count(index) for index in range(len(weights))] == [weight // common for weight in weights]


@given(WEIGHTS)
def test_after_any_number_of_places_no_index_is_a_whole_place_ahead_of_or_behind_its_share(
    weights: tuple[int, ...],
) -> None:
    order = list(smooth(weights)) * 2
    total = sum(weights)
    counts = [0] * len(weights)
    for place, index in enumerate(order, start=1):
        counts[index] += 1
        assert all(abs(count - place * weight / total) < 1 for count, weight in zip(counts, weights, strict=True))


def test_bursts_like_aaab_do_not_happen_where_they_can_be_avoided() -> None:
    """Defect: One round-robin counter for all models, and bursts (AAAB)."""
    order = "".join("abc"[index] for index in smooth((5, 1, 1))) * 2
    assert "aaaa" not in order
    order = "".join("ab"[index] for index in smooth((2, 2))) * 2
    assert order == "abab"
    order = "".join("ab"[index] for index in smooth((3, 2))) * 2
    assert "aaa" not in order


def test_equal_weights_take_their_turns_in_order() -> None:
    assert list(smooth((7, 7, 7))) == [0, 1, 2]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40).map(tuple))
def test_the_order_is_bounded_and_its_ratios_hold_nearly(weights: tuple[int, ...]) -> None:
    order = smooth(weights)
    assert len(order) <= max(MAX_ORDER, 4 * len(weights))
    for index, weight in enumerate(weights):
        share = list(order).count(index) / len(order)
        assert abs(share - weight / sum(weights)) < 0.02 + 1 / len(order)


def test_a_thousand_services_with_odd_weights_still_make_a_short_order() -> None:
    order = smooth(tuple(1 + index * 7919 % 997 for index in range(1000)))
    assert len(order) <= 5000
    assert set(order) == set(range(1000))


def test_nobody_means_an_empty_order() -> None:
    assert list(smooth(())) == []

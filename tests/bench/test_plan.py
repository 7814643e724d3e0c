"""Who runs when, and how long it still takes."""

from bench.common.plan import Progress, turns, words

EVERYBODY = ["a", "b", "c", "d"]


def test_everybody_has_one_turn_in_each_run() -> None:
    plan = list(turns("json-64", EVERYBODY, 5, seed=1))
    for run in range(1, 6):
        mine = [turn for turn in plan if turn.run == run]
        assert sorted(turn.contestant for turn in mine) == EVERYBODY
        assert [turn.position for turn in mine] == [1, 2, 3, 4]
    assert [turn.run for turn in plan] == sorted(turn.run for turn in plan)


def test_the_order_differs_from_run_to_run_and_from_case_to_case() -> None:
    plan = list(turns("json-64", EVERYBODY, 5, seed=1))
    orders = {tuple(turn.contestant for turn in plan if turn.run == run) for run in range(1, 6)}
    assert len(orders) > 2
    assert plan != list(turns("json-512", EVERYBODY, 5, seed=1))


def test_the_same_seed_gives_the_same_order() -> None:
    assert list(turns("x", EVERYBODY, 5, seed=3)) == list(turns("x", EVERYBODY, 5, seed=3))
    assert list(turns("x", EVERYBODY, 5, seed=3)) != list(turns("x", EVERYBODY, 5, seed=4))


def test_the_time_left_is_corrected_by_the_time_that_was_taken() -> None:
    progress = Progress(100)
    assert progress.left == 100
    progress.done(planned=20, taken=40)
    assert progress.left == 160
    progress.done(planned=80, taken=160)
    assert progress.left == 0


def test_durations_are_said_in_minutes_and_seconds() -> None:
    assert [words(5.4), words(60), words(95)] == ["5 s", "1 min 00 s", "1 min 35 s"]

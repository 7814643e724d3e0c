"""The time of a step of the simulated engine, against the numbers as they were published."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.sim.constants import A100_7B, DYNAMO_MOCKER, H100_8B, PROFILES, StepTime

MS = 0.001


@pytest.mark.parametrize(
    ("prefill", "decoding", "context", "milliseconds"),
    [
        (0, 1, 0, 7.0044),
        (8192, 0, 0, 7 + 270.336 + 0.0044),
        (0, 256, 400_000, 7 + 1.1264 + 30.4),
        (8000, 192, 300_000, 7 + 264 + 0.0044 * 193 + 22.8),
    ],
)
def test_8b_on_an_h100(prefill: int, decoding: int, context: int, milliseconds: float) -> None:
    beginning = 1 if prefill else 0
    assert H100_8B.step.mixed(prefill, beginning, 0, decoding, context) == pytest.approx(milliseconds * MS)


def test_a_prefill_on_an_h100_reads_what_was_computed_before() -> None:
    assert H100_8B.step.mixed(100, 1, 100_000, 0, 0) == pytest.approx((7 + 3.3 + 7.6 + 0.0044) * MS)


def test_8b_on_an_h100_computes_thirty_thousand_tokens_a_second_and_has_room_for_421_thousand() -> None:
    assert 8192 / H100_8B.step.mixed(8192, 1, 0, 0, 0) == pytest.approx(30_000, rel=0.02)
    assert (H100_8B.blocks, H100_8B.blocks * H100_8B.block_size) == (26312, 420_992)


@pytest.mark.parametrize(("tokens", "milliseconds"), [(1, 16.5152), (1000, 32.121), (8192, 4.21e-7 * 8192**2 + 141.02)])
def test_the_mockers_prefill(tokens: int, milliseconds: float) -> None:
    assert DYNAMO_MOCKER.step.mixed(tokens, 1, 0, 0, 0) == pytest.approx(milliseconds * MS, rel=1e-4)


@pytest.mark.parametrize("filled", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_mockers_decode(filled: float) -> None:
    milliseconds = max(1.0, -25.74 * filled**2 + 54.01 * filled + 5.74)
    seconds = DYNAMO_MOCKER.step.decode(1, 10, int(filled * DYNAMO_MOCKER.kv_tokens))
    assert seconds == pytest.approx(milliseconds * MS, rel=1e-4)


@pytest.mark.parametrize(("tokens", "milliseconds"), [(1, 18.3768), (256, 18.3768), (512, 31.2536), (8192, 417.5576)])
def test_7b_on_an_a100(tokens: int, milliseconds: float) -> None:
    assert A100_7B.step.mixed(tokens, 1, 0, 0, 0) == pytest.approx(milliseconds * MS)
    assert A100_7B.step.mixed(tokens - 1, 1, 0, 1, 500) == pytest.approx(milliseconds * MS), (
        "answers count like prompts"
    )


coefficients = st.builds(
    StepTime,
    fixed=st.floats(0, 1),
    decode_fixed=st.floats(0, 1),
    per_context=st.floats(0, 1e-3),
    per_context_squared=st.floats(-1e-8, 1e-8),
    per_sequence=st.floats(0, 1e-2),
    per_token=st.floats(0, 1e-2),
    least_tokens=st.integers(0, 20),
)


@given(coefficients, st.integers(1, 60), st.integers(1, 30), st.integers(0, 5000))
def test_many_steps_take_as_long_as_each_of_them_together(
    step: StepTime, steps: int, decoding: int, context: int
) -> None:
    each = [step.mixed(0, 0, 0, decoding, context + decoding * number) for number in range(steps)]
    assert step.decode(steps, decoding, context) == pytest.approx(sum(each), abs=1e-9)


@pytest.mark.parametrize("name", PROFILES)
def test_a_fuller_step_never_takes_less_time(name: str) -> None:
    profile = PROFILES[name]
    contexts = range(0, profile.kv_tokens + 1, profile.kv_tokens // 50)
    seconds = [profile.step.decode(1, 64, context) for context in contexts]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.cost import COMMIT_POLICIES, Budget, Cost, Pipeline
from s2search.errors import QuantityError

costs = st.builds(
    Cost, latency_us=st.integers(0, 10**9), memory_bytes=st.integers(0, 10**12), peak_bytes=st.integers(0, 10**12)
)
PHONE = Pipeline(chunk_frames=12, steps=4, text_ms=4.0, decoder_ms=80.0)


@given(costs, costs, costs)
def test_costs_add_up_in_any_order(a: Cost, b: Cost, c: Cost) -> None:
    assert (a + b) + c == a + (b + c) == c + b + a
    assert a + Cost() == a


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("260ms", "latency", 260_000),
        ("0.26 s", "latency", 260_000),
        ("260000us", "latency", 260_000),
        (".5s", "latency", 500_000),
        ("2.6e2ms", "latency", 260_000),
        ("1.1GB", "memory", 1_100_000_000),
        ("900MiB", "memory", 943_718_400),
        ("1gib", "memory", 2**30),
        ("10fps", "rate", 10),
        ("29.97fps", "rate", Fraction(2997, 100)),
    ],
)
def test_budgets_are_read_exactly(text: str, kind: str, amount: Fraction) -> None:
    budget = Budget.parse(text)
    assert (budget.kind, budget.amount) == (kind, amount)


@pytest.mark.parametrize(
    "text", ["", "ms", "260", "260 furlongs", "nanms", "infms", "-1ms", "0ms", "1e999ms", "1,1GB", "1ms2"]
)
def test_what_is_not_a_positive_quantity_is_refused_by_name(text: str) -> None:
    with pytest.raises(QuantityError) as refused:
        Budget.parse(text)
    assert repr(text) in str(refused.value)
    assert "10fps" in str(refused.value)


def test_the_published_chunk_takes_1124_ms_and_a_clean_pass_1384() -> None:
    """Source: S2DiT, table A3."""
    assert PHONE.chunk_us(260_000, "reuse_last") == 1_124_000
    assert PHONE.frames_per_second(260_000, "reuse_last") == pytest.approx(10.7, abs=0.05)
    assert PHONE.chunk_us(260_000, "clean_pass") == 1_384_000
    assert PHONE.frames_per_second(260_000, "clean_pass") == pytest.approx(8.7, abs=0.05)


@given(st.fractions(1, 100), st.sampled_from(COMMIT_POLICIES))
def test_a_forward_pass_at_its_rate_budget_keeps_the_rate_and_one_more_microsecond_breaks_it(
    rate: Fraction, commit: str
) -> None:
    budget_us = PHONE.forward_budget_us(rate, commit)
    limit_us = Fraction(12_000_000) / rate
    assert PHONE.chunk_us(budget_us, commit) <= limit_us < PHONE.chunk_us(budget_us + 1, commit)


def test_a_rate_that_text_and_decoder_alone_exceed_is_refused() -> None:
    with pytest.raises(QuantityError, match="leaves no time for the transformer"):
        PHONE.forward_budget_us(Fraction(143), "reuse_last")

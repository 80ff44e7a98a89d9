from __future__ import annotations

import pytest

from s2search.readers.s2dit_paper import clip_ms, consistency, read, stream_ms
from s2search.tables.table import open_table


def test_the_shipped_table_is_what_the_derivation_gives() -> None:
    assert open_table("iphone-16-pro-max.coreml.w4a8") == read()


def test_the_sums_explain_the_published_compositions_within_the_stated_residuals() -> None:
    """Source: S2DiT, table 3: sandwich 531 ms, hourglass 736 ms."""
    clip = clip_ms()
    assert float(12 * clip["lcha"] + 16 * clip["ssa"]) == pytest.approx(533.1, abs=0.1)
    assert float(12 * clip["kv_compressed"] + 16 * clip["ssa"]) == pytest.approx(725.1, abs=0.1)
    assert {label: round(100 * float(r), 2) for label, r in consistency().items() if "[" not in label} == {
        "lcha": 0.4,
        "kv_compressed": 1.48,
        "ssa": 1.48,
    }


def test_variants_give_their_published_sandwich_back() -> None:
    """Source: S2DiT, table 3."""
    clip = clip_ms()
    published = {"local_only=true": 347, "linear_only=true": 457, "feature_map=relu": 499, "linear_head_dim=256": 569}
    for options, total in published.items():
        assert 12 * clip[f"lcha[{options}]"] + 16 * clip["ssa"] == total


def test_streaming_rows_are_the_clip_rows_scaled_to_260_ms() -> None:
    stream, clip = stream_ms(), clip_ms()
    assert 12 * stream["lcha"] + 16 * stream["ssa"] == 260
    assert {stream[label] / clip[label] for label in clip} == {stream["ssa"] / clip["ssa"]}


def test_rows_are_rounded_down_to_a_microsecond_and_say_what_they_are() -> None:
    for row in read().rows:
        exact = (stream_ms() if row.scenario == "stream" else clip_ms()).get(row.label)
        assert exact is None or 0 <= exact - round(1000 * row.latency_ms) / 1000 < 0.001
        assert row.latency_provenance in ("derived", "estimated")
        assert row.samples == 0
        assert row.latency_provenance == "derived" or row.label not in ("lcha", "ssa")

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.errors import InputError
from s2search.precision.part import LEAST_NUMBERS, PartPrecision, blob_bytes, package_precision, parts_in_order

labels = st.builds(
    lambda bits, group, activations: f"w{bits}{f'g{group}' if group else ''}a{activations}",
    st.sampled_from([4, 6, 8]),
    st.integers(0, 999_999),
    st.sampled_from([8, 16]),
)


@given(labels)
def test_a_label_that_was_read_is_written_as_it_was(label):
    assert PartPrecision.parse(label).label == label


@pytest.mark.parametrize(
    "text", ["", "w5a16", "w4a4", "w4", "w4g0a16", "w4g01a16", "W4A16", "w4a16 ", "float32", "w16a8"]
)
def test_what_is_no_precision_of_a_part_is_refused_with_its_text(text):
    with pytest.raises(InputError, match="is not a precision of a part") as error:
        PartPrecision.parse(text)
    assert repr(text) in str(error.value)


def test_a_palette_takes_its_indices_and_its_tables():
    four, grouped = PartPrecision.parse("w4a16"), PartPrecision.parse("w4g32a16")
    assert four.matrix_bytes(64, 64) == (64 + 64 * 64 // 2) + (64 + 64)  # 16 values of 2 bytes, in 64
    assert grouped.matrix_bytes(64, 64) == (64 + 64 * 64 // 2) + (64 + 2 * 16 * 2)
    assert PartPrecision.parse("w6a8").matrix_bytes(64, 64) == (64 + 64 * 64 * 6 // 8) + (64 + 64 * 2)


def test_rows_that_do_not_divide_into_groups_share_one_table():
    assert [PartPrecision.parse("w4g32a16").tables(rows) for rows in (96, 100, 32)] == [3, 1, 1]


def test_a_small_matrix_stays_float16():
    rows = LEAST_NUMBERS // 64
    assert PartPrecision.parse("w4a16").matrix_bytes(rows, 64) == PartPrecision().matrix_bytes(rows, 64)
    assert PartPrecision.parse("w4a16").matrix_bytes(rows + 1, 64) < PartPrecision().matrix_bytes(rows + 1, 64)


def test_tensors_begin_at_multiples_of_64_bytes_after_a_header():
    assert [blob_bytes(size) for size in (1, 64, 65)] == [128, 128, 192]


def test_parts_come_in_the_order_of_the_model_and_what_serves_all_layers_last():
    names = [
        "text.gemma",
        "head.patch",
        "layers.0.attention.key",
        "layers.0.cross_attention.key",
        "up.mix",
        "stem.patch",
    ]
    assert parts_in_order([*names, "layers.10.attention.key"]) == (
        "stem",
        "layers.0",
        "layers.10",
        "up",
        "head",
        "text",
    )


def test_a_package_goes_by_its_fewest_bits_of_weights_and_of_activations():
    found = [PartPrecision.parse(label) for label in ("float16", "w4a16", "w8a8")]
    assert package_precision(found) == "w4a8"
    assert package_precision([PartPrecision()]) == "float16"

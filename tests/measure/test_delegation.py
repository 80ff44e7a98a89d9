"""What LiteRT's log proves of where operations ran, and what it does not."""

from pathlib import Path

import pytest

from s2search.errors import InputError
from s2search.measurement.delegation import check_whole, delegated
from s2search.measurement.litert import litert_ms

DATA = Path(__file__).parents[1] / "data" / "adb"
TAKEN = "Replacing {} out of {} node(s) with delegate ({}) node, yielding 1 partitions for subgraph 0.\n"
APPLIED = "INFO: Explicitly applied GPU delegate, and the model graph will be {} by the delegate.\n"


@pytest.mark.parametrize(
    ("log", "unit", "placement"),
    [
        (TAKEN.format(49, 49, "TfLiteGpuDelegateV2"), "gpu", {"gpu": 49}),
        (TAKEN.format(253, 253, "LITERT_CL"), "gpu", {"gpu": 253}),
        (
            TAKEN.format(250, 253, "LITERT_CL") + TAKEN.format(3, 4, "TfLiteXNNPackDelegate"),
            "gpu",
            {"gpu": 250, "cpu": 3},
        ),
        (TAKEN.format(5, 5, "LITERT_CL") + TAKEN.format(3, 4, "LITERT_CL"), "gpu", {"gpu": 8, "cpu": 1}),
        (APPLIED.format("completely executed"), "gpu", {"gpu": 1}),
        (TAKEN.format(1, 1, "DispatchDelegate"), "npu", {"npu": 1}),
        # The compiler plugin counts operations, the delegate what it made of them.
        (
            "Partitioned subgraph<0>, selected 3911 ops, from a total of 3912 ops. resulted in 2 partitions.\n"
            + TAKEN.format(2, 3, "DispatchDelegate"),
            "npu",
            {"npu": 3911, "cpu": 1},
        ),
        # It compiled all into two partitions, of which one did not come to run there.
        (
            "Partitioned subgraph<0>, selected 12 ops, from a total of 12 ops. resulted in 2 partitions.\n"
            + TAKEN.format(1, 2, "DispatchDelegate"),
            "npu",
            {"npu": 1, "cpu": 1},
        ),
        # What a plugin of another unit took says nothing of this one.
        (
            "Partitioned subgraph<0>, selected 11 ops, from a total of 12 ops. resulted in 2 partitions.\n"
            + TAKEN.format(3, 4, "LITERT_CL"),
            "gpu",
            {"gpu": 3, "cpu": 1},
        ),
    ],
)
def test_operations_are_counted_where_a_delegate_says_that_it_took_them(log, unit, placement):
    assert delegated(f"noise\n{log}more noise", unit) == placement


@pytest.mark.parametrize(
    "log",
    [
        "",
        TAKEN.format(62, 62, "TfLiteXNNPackDelegate"),
        TAKEN.format(0, 1, "DispatchDelegate"),
        "Partitioned subgraph<0>, selected 12 ops, from a total of 12 ops. resulted in 1 partitions.\n",
        APPLIED.format("partially executed"),
        "INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.",
        "INFO: Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.",
    ],
)
@pytest.mark.parametrize("unit", ["gpu", "npu"])
def test_without_a_line_of_the_units_own_delegate_nothing_is_proved(log, unit):
    with pytest.raises(InputError, match=f"no line of the log proves that anything ran on the {unit.upper()}"):
        delegated(log, unit)


def test_on_the_cpu_nothing_has_to_be_proved():
    assert delegated("", "cpu") == {"cpu": 1}


@pytest.mark.parametrize(
    ("placement", "said"),
    [
        ({"gpu": 250, "cpu": 3}, "x: 250 of 253 operations ran on the GPU, 3 on cpu; a row is of one unit"),
        ({"npu": 1}, "x: 0 of 1 operations ran on the GPU, 1 on npu"),
        ({"gpu": 5, "unspecified": 1}, "x: 5 of 6 operations ran on the GPU, 1 on unspecified"),
        ({}, "x: 0 of 0 operations ran on the GPU, none anywhere"),
    ],
)
def test_only_a_whole_placement_passes(placement, said):
    with pytest.raises(InputError) as refusal:
        check_whole(placement, "gpu", "x")
    assert str(refusal.value).startswith(said)
    check_whole({"gpu": 253, "cpu": 0}, "gpu", "x")


def test_both_programs_named_benchmark_model_are_read():
    assert litert_ms((DATA / "benchmark_model.gpu.txt").read_text()) == pytest.approx(3.0935)
    assert litert_ms((DATA / "benchmark_litert_model.npu.txt").read_text()) == pytest.approx(1.38)
    with pytest.raises(InputError, match="printed no inference time"):
        litert_ms("INFO: [benchmark_litert_model.h:99] Inference (avg):      0.00 ms (0 runs)")

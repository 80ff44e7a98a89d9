import math

import numpy as np
import pytest
import torch

from s2search.errors import InputError, UnknownNameError
from s2search.mil.evaluator import MODES, Evaluator
from s2search.mil.rules.operations import lint
from s2search.mil.watch import KeptValues, Peaks, compare, tensor_snr_db
from tests.mil.programs import builder, load

X = np.linspace(-1, 1, 24, dtype=np.float16).reshape(2, 12)
WEIGHT = np.random.default_rng(0).normal(size=(12, 12)).astype(np.float16)


def chain(gain, kernel=WEIGHT):
    """Return a program of four operations; the third multiplies by a gain."""
    mb = builder()

    def build(x):
        first = mb.linear(x=x, weight=kernel, name="projected")
        second = mb.tanh(x=first, name="squashed")
        third = mb.mul(x=second, y=np.float16(gain), name="scaled")
        return mb.softplus(x=third, name="softened")

    return build


def evaluator(tmp_path, build, mode="float32", inputs=(X,)):
    tmp_path.mkdir(exist_ok=True)
    return Evaluator(load(tmp_path, build, list(inputs)), mode=mode)


def test_peaks_name_the_largest_value_and_where_it_is(tmp_path):
    run, peaks = evaluator(tmp_path, chain(40)), Peaks()
    result = run.run({"x": torch.from_numpy(X)}, watch=[peaks])
    assert [peak.operation.name for peak in peaks.peaks] == ["projected", "squashed", "scaled", "softened"]
    assert peaks.largest.operation.name in ("scaled", "softened")
    assert peaks.peaks[3].largest == result.outputs["softened"].max()
    assert peaks.peaks[3].largest_input == peaks.peaks[2].largest
    assert peaks.first_non_finite is None


@pytest.mark.parametrize("mode", MODES)
def test_the_first_operation_that_overflows_is_named(tmp_path, mode):
    mb = builder()

    def build(x):
        large = mb.mul(x=x, y=np.float16(60_000), name="large")
        larger = mb.mul(x=large, y=np.float16(2), name="larger")
        return mb.mul(x=larger, y=np.float16(0.001), name="small")

    peaks = Peaks()
    got = evaluator(tmp_path, build, mode).run({"x": torch.from_numpy(X)}, watch=[peaks]).outputs["small"]
    if mode == "float32":
        assert peaks.first_non_finite is None
        torch.testing.assert_close(got, 120 * torch.from_numpy(X).float(), rtol=1e-3, atol=0)
    else:
        assert peaks.first_non_finite.operation.name == "larger"


def test_not_a_number_counts_as_not_finite(tmp_path):
    mb, peaks = builder(), Peaks()
    run = evaluator(tmp_path, lambda x: mb.tanh(x=mb.sqrt(x=x, name="root"), name="after"))
    run.run({"x": torch.from_numpy(X)}, watch=[peaks])
    assert peaks.first_non_finite.operation.name == "root"
    assert peaks.largest.largest == math.inf


def test_only_a_sum_in_float16_overflows_in_a_mean(tmp_path):
    mb = builder()
    x = np.full((1, 4000), 50, np.float16)
    for mode, expected in [("float32", 50), ("float16", 50), ("pessimistic", math.inf)]:
        run = evaluator(tmp_path / mode, lambda x: mb.reduce_mean(x=x, axes=[-1], name="mean"), mode, [x])
        assert run.run({"x": torch.from_numpy(x)}).outputs["mean"] == expected


def test_only_squares_in_float16_overflow_in_a_norm(tmp_path):
    mb = builder()
    x = np.array([[300, 400]], np.float16)  # their squares are beyond float16, the root of their sum is not
    for mode, expected in [("float32", 500), ("float16", 500), ("pessimistic", math.inf)]:
        run = evaluator(tmp_path / mode, lambda x: mb.reduce_l2_norm(x=x, axes=[-1], name="norm"), mode, [x])
        assert run.run({"x": torch.from_numpy(x)}).outputs["norm"] == expected


def test_a_float32_operation_of_a_float16_program_is_not_rounded(tmp_path):
    mb = builder()
    x = np.full((1, 4000), 50, np.float16)

    def build(x):
        return mb.reduce_sum(x=mb.cast(x=x, dtype="fp32"), axes=[-1], name="sum")

    for mode in MODES:
        assert evaluator(tmp_path / mode, build, mode, [x]).run({"x": torch.from_numpy(x)}).outputs["sum"] == 200_000


def test_float16_mode_rounds_every_value_and_float32_mode_none(tmp_path):
    program = load(tmp_path, chain(3), [X])
    for mode in MODES:
        taps = KeptValues(program.function(), ["projected", "squashed", "scaled"])
        Evaluator(program, mode=mode).run({"x": torch.from_numpy(X)}, watch=[taps])
        assert list(taps.values) == ["projected", "squashed", "scaled"]
        rounded = [torch.equal(x, x.half().float()) for x in taps.values.values()]
        assert rounded == [mode != "float32"] * 3


def test_a_tap_gives_the_named_value(tmp_path):
    run = evaluator(tmp_path, chain(3))
    taps = KeptValues(run.function, ["scaled"])
    run.run({"x": torch.from_numpy(X)}, watch=[taps])
    expected = 3 * np.tanh(X.astype(np.float32) @ WEIGHT.astype(np.float32).T)
    np.testing.assert_allclose(taps.values["scaled"], expected, rtol=1e-5, atol=1e-6)


def test_a_tap_of_an_unknown_value_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match=r"no value of this program is called 'squash' .*'squashed'"):
        KeptValues(evaluator(tmp_path, chain(3)).function, ["squash"])


def test_a_comparison_names_the_first_operation_that_differs(tmp_path):
    wrong = WEIGHT.copy()
    wrong[3, 4] += 0.5
    inputs = {"x": torch.from_numpy(X)}
    runs = evaluator(tmp_path / "a", chain(3)), evaluator(tmp_path / "b", chain(3.5))
    found = compare(*runs, inputs)
    assert [parity.snr_db for parity in found.parities[:2]] == [math.inf] * 2
    assert found.first_below(60).operation.name == "scaled"
    expected = 20 * math.log10(3 / 0.5)
    assert found.parities[2].snr_db == pytest.approx(expected, abs=1e-3)
    assert found.first_below(-10) is None
    other = compare(runs[0], evaluator(tmp_path / "c", chain(3, wrong)), inputs)
    assert other.first_below(60).operation.name == "projected"
    assert tensor_snr_db(other.reference.outputs["softened"], other.tested.outputs["softened"]) == pytest.approx(
        other.parities[-1].snr_db
    )


def test_a_comparison_goes_by_name_where_one_program_has_more(tmp_path):
    mb = builder()

    def longer(x):
        first = mb.linear(x=mb.mul(x=x, y=np.float16(2), name="twice"), weight=(WEIGHT / 2), name="projected")
        return mb.softplus(x=mb.tanh(x=first, name="squashed"), name="softened")

    inputs = {"x": torch.from_numpy(X)}
    found = compare(evaluator(tmp_path / "a", chain(1)), evaluator(tmp_path / "b", longer), inputs)
    assert [parity.operation.name for parity in found.parities] == ["projected", "squashed", "softened"]
    assert min(parity.snr_db for parity in found.parities) > 60
    turned = compare(evaluator(tmp_path / "c", longer), evaluator(tmp_path / "d", chain(1)), inputs)
    assert [parity.snr_db for parity in turned.parities] == [parity.snr_db for parity in found.parities]


def test_programs_without_a_common_name_are_not_compared(tmp_path):
    mb = builder()
    run = evaluator(tmp_path / "a", chain(1)), evaluator(tmp_path / "b", lambda x: mb.tanh(x=x, name="other"))
    with pytest.raises(InputError, match="share no name"):
        compare(*run, {"x": torch.from_numpy(X)})


@pytest.mark.parametrize(
    ("expected", "got", "snr_db"),
    [
        ([1.0, 0.0], [1.0, 0.0], math.inf),
        ([0.0], [0.0], math.inf),
        ([0.0], [0.1], -math.inf),
        ([1.0], [math.nan], -math.inf),
        ([math.inf], [math.inf], -math.inf),
        ([1.0], [1.0, 1.0], -math.inf),
        ([1.0, 1.0], [1.0, 1.1], 23.0103),
    ],
)
def test_parity_of_one_tensor(expected, got, snr_db):
    assert tensor_snr_db(torch.tensor(expected), torch.tensor(got)) == pytest.approx(snr_db, abs=1e-4)


@pytest.mark.parametrize(("gain", "rules"), [(9.5, []), (40, ["softplus_above_10"])])
def test_lint_finds_a_softplus_that_is_fed_above_ten(tmp_path, gain, rules):
    run, peaks = evaluator(tmp_path, chain(gain)), Peaks()
    for _ in range(2):
        run.run({"x": torch.from_numpy(10 * X)}, watch=[peaks])
    found = lint(run.function, peaks)
    assert [finding.rule for finding in found] == rules
    assert [finding.names[0] for finding in found] == ["softened"] * len(rules)


def test_lint_finds_axes_and_three_dimensional_convolutions(tmp_path):
    mb = builder()
    x = np.zeros((1, 2, 3, 4, 5), np.float32)
    kernel = np.ones((2, 2, 2, 1, 1), np.float32)
    program = load(tmp_path, lambda x: mb.conv(x=x, weight=kernel, pad_type="valid", name="seen"), [x])
    assert [(finding.rule, finding.names[0]) for finding in lint(program.function())] == [
        ("rank_above_4", "seen"),
        ("conv_3d", "seen"),
    ]


def test_lint_names_what_has_no_cover(tmp_path):
    mb = builder()
    x = np.ones((3, 4), np.float32)
    program = load(tmp_path, lambda x: mb.non_zero(x=x, name="places"), [x])
    (found,) = lint(program.function())
    assert (found.rule, found.names[0]) == ("no_cover", "places")
    with pytest.raises(InputError, match="nothing here computes 1 operation of 'main': non_zero"):
        Evaluator(program)

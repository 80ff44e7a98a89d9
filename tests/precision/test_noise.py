from __future__ import annotations

import dataclasses

import pytest

from s2search.errors import InputError
from s2search.precision.documents import PartChoices, PrecisionChoice, Sensitivity
from s2search.precision.noise import Noise


def swept(layout, noise, **changes):
    """Return a sweep of a layout, whose layer i has (i + 1) times a noise at 4 bits."""
    parts = tuple(
        PartChoices(
            part=part,
            block=block,
            choices=(
                PrecisionChoice(precision="float16", bytes=16, noise=0.0),
                PrecisionChoice(precision="w4a16", bytes=4, noise=noise * (i + 1)),
            ),
        )
        for i, (part, block) in enumerate([*((f"layers.{i}", b) for i, b in enumerate(layout)), ("stem", "")])
    )
    whole = {
        "model_digest": "sha256:m",
        "plan_digest": None,
        "weights_digest": "sha256:w",
        "grid": (9, 16),
        "chunks": 1,
        "seed": 0,
        "palette": "kmeans",
        "rest_bytes": 100,
        "parts": parts,
    }
    return Sensitivity(**{**whole, **changes})


def test_sweeps_of_several_layouts_know_each_what_stands_there():
    noise = Noise(sweeps=(swept(["lcha", "ssa"], 1e-3), swept(["ssa", "lcha"], 1e-2)))
    assert noise.choice("layers.0", "lcha", "w4a16").noise == 1e-3
    assert noise.choice("layers.0", "ssa", "w4a16").noise == 1e-2
    assert noise.choice("layers.1", "lcha", "w4a16").noise == 2e-2
    noise.check([("layers.1", "lcha", "w4a16"), ("stem", "", "float16")])
    assert noise.depth == 2


def test_of_sweeps_of_the_same_block_at_the_same_layer_the_noisiest_counts():
    sweeps = (swept(["lcha", "ssa"], 1e-3), swept(["lcha", "lcha"], 1e-2))
    for both in (sweeps, sweeps[::-1]):
        assert Noise(sweeps=both).choice("layers.0", "lcha", "w4a16").noise == 1e-2
        assert Noise(sweeps=both).choice("stem", "", "w4a16").noise == 3e-2


def test_what_no_sweep_has_is_refused_by_name_with_what_to_sweep():
    noise = Noise(sweeps=(swept(["lcha", "ssa", "lcha"], 1e-3),))
    with pytest.raises(InputError) as error:
        noise.check([("layers.0", "ssa", "w4a16"), ("layers.0", "ssa", "float16"), ("layers.1", "lcha", "w4a16")])
    assert str(error.value).startswith("no sweep knows the noise of ssa at layers.0, lcha at layers.1; sweep a layout")
    assert "--noise-elsewhere mean" in str(error.value)
    with pytest.raises(InputError, match=r"no sweep has the precision 'w8a16'; swept: float16, w4a16; sweep it"):
        noise.check([("layers.0", "lcha", "w8a16")])
    with pytest.raises(InputError) as other:
        noise.check([("layers.0", "full", "w4a16"), ("down", "", "w4a16")])
    assert "full at layers.0, down" in str(other.value)
    assert "--noise-elsewhere" not in str(other.value)


def test_a_mean_over_layers_stands_in_only_where_it_is_asked_for_and_is_told_with_its_spread():
    noise = Noise(sweeps=(swept(["lcha", "ssa", "lcha"], 1e-3),), elsewhere="mean")
    noise.check([("layers.1", "lcha", "w4a16")])
    assert noise.assumes("layers.1", "lcha", "w4a16")
    assert not noise.assumes("layers.2", "lcha", "w4a16")
    assert noise.choice("layers.1", "lcha", "w4a16").noise == pytest.approx((1e-3 + 3e-3) / 2)
    assert noise.choice("layers.1", "lcha", "w4a16").bytes == 4
    assert noise.choice("layers.2", "lcha", "w4a16").noise == pytest.approx(3e-3)
    assert noise.spread_db("lcha", "w4a16") == pytest.approx(4.771, abs=1e-3)  # 3 to 1
    assert noise.spread_db("lcha", "float16") == 0.0
    with pytest.raises(InputError, match=r"full at layers\.0"):
        noise.check([("layers.0", "full", "w4a16")])
    with pytest.raises(InputError, match="no sweep knows the noise of down"):
        noise.check([("down", "", "w4a16")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": (18, 32)}, "grid is (9, 16) in one and (18, 32) in another"),
        ({"palette": "uniform"}, "palette is kmeans in one and uniform in another"),
        ({"parts": swept(["lcha"], 1e-3).parts}, "depth is 2 in one and 1 in another"),
    ],
)
def test_sweeps_of_different_models_are_refused(changes, message):
    with pytest.raises(InputError) as error:
        Noise(sweeps=(swept(["lcha", "ssa"], 1e-3), swept(["ssa", "lcha"], 1e-3, **changes)))
    assert message in str(error.value)


def test_one_sweep_goes_by_its_own_digest_and_several_by_one_that_knows_no_order():
    one, other = swept(["lcha", "ssa"], 1e-3), swept(["ssa", "lcha"], 1e-3)
    assert Noise(sweeps=(one,)).digest == Noise(sweeps=(one, one)).digest == one.digest
    assert Noise(sweeps=(one, other)).digest == Noise(sweeps=(other, one)).digest
    assert Noise(sweeps=(one, other)).digest not in (one.digest, other.digest)
    assert Noise(sweeps=(one, dataclasses.replace(other, rest_bytes=101))).digest != Noise(sweeps=(one, other)).digest


def test_no_sweep_and_an_unknown_answer_are_refused():
    with pytest.raises(InputError, match="there is no sweep"):
        Noise(sweeps=())
    with pytest.raises(InputError, match="noise elsewhere is 'guess'; refuse, mean"):
        Noise(sweeps=(swept(["lcha"], 1e-3),), elsewhere="guess")

"""How far clips are from real ones: estimators and their errors, networks, what is seen, and samples of models."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.linalg import sqrtm

import s2search
from s2search.errors import CheckError, InputError
from s2search.network.config import CausalForm
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.reporting.distance import distance_lines
from s2search.streaming.sampler import FewStepSampler
from s2search.streaming.state import StreamState
from s2search.training.data.clips import Clips
from s2search.training.distance.corruptions import LEARNED, NEEDED, SHOWN, shuffled, spliced
from s2search.training.distance.documents import Claim, Distances, GeneratedHeading, GeneratedShard
from s2search.training.distance.generate import Maker, generate
from s2search.training.distance.held_out import HeldOutDistance
from s2search.training.distance.learn import learned
from s2search.training.distance.measure import Yardstick, halves, nearer, see
from s2search.training.distance.models import model_row
from s2search.training.distance.networks import FeatureNetworks, random_network
from s2search.training.distance.statistics import FeatureSample, farther, frechet, jackknife, mmd
from tests.command import run_here

SIZES = Preset(
    name="nano", depth=2, channels=16, heads=2, feed_forward=32, text_channels=8, text_tokens=6, chunk_frames=2
)
N = 120
SHIPPED = Path(__file__).parents[2] / "notebooks" / "distance" / "doom.safetensors"


@pytest.fixture(autouse=True, scope="module")
def _one(one_thread: None) -> None:
    """Run on one thread."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distance")
    s2search.data_make(
        "shapes[count=480,speed=0.04]",
        folder / "clips",
        video="32x32",
        frames=17,
        clips=1,
        held_out=0.5,
        codec="dct[channels=4]",
    )
    torch.manual_seed(0)
    S2DiT.from_preset(SIZES, "LS", velocity="residual", latent_channels=4).save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def clips(made: Path) -> Clips:
    return Clips.load(made / "clips")


@pytest.fixture(scope="module")
def networks(clips: Clips) -> FeatureNetworks:
    return learned(clips, features=16, steps=600)


@pytest.fixture(scope="module")
def yardstick(clips: Clips, networks: FeatureNetworks) -> Yardstick:
    return Yardstick.of(clips, networks, N)


@pytest.fixture
def model(made: Path) -> S2DiT:
    found: S2DiT = S2DiT.from_pretrained(made / "model")
    return found.eval().requires_grad_(False)


def maker(made: Path, clips: Clips, causal: CausalForm | None = None, steps: int = 2) -> Maker:
    """Return a model with random weights, as if it had been trained to stream in this way."""
    found = Maker.of(made / "model", clips, torch.device("cpu"), steps=steps, text=None)
    found.model.config = dataclasses.replace(found.model.config, causal=causal)
    return found


def normal(seed: int, count: int, features: int = 6, moved: float = 0.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(count, features)) + moved


# What estimators are


def naive_mmd(x_ND: NDArray[np.float64], y_MD: NDArray[np.float64]) -> float:
    def mean(a: NDArray[np.float64], b: NDArray[np.float64], same: bool) -> float:
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
        return float(np.mean([(a[i] @ b[j] / a.shape[1] + 1) ** 3 for i, j in pairs]))

    return mean(x_ND, x_ND, True) + mean(y_MD, y_MD, True) - 2 * mean(x_ND, y_MD, False)


def test_mmd_is_its_definition_and_so_is_what_it_is_without_each_sample() -> None:
    x_ND, y_MD = normal(0, 7), normal(1, 9, moved=0.5)
    found = mmd(FeatureSample.of(x_ND), FeatureSample.of(y_MD))
    assert found.value == pytest.approx(naive_mmd(x_ND, y_MD), rel=1e-12)
    for place in range(7):
        assert found.first_G[place] == pytest.approx(naive_mmd(np.delete(x_ND, place, 0), y_MD), rel=1e-12)
    for place in range(9):
        assert found.second_H[place] == pytest.approx(naive_mmd(x_ND, np.delete(y_MD, place, 0)), rel=1e-12)


def test_mmd_of_equal_distributions_is_zero_on_average_however_few_the_samples() -> None:
    for count in (5, 40):
        values = [
            mmd(FeatureSample.of(normal(s, count)), FeatureSample.of(normal(10_000 + s, 30))).value for s in range(400)
        ]
        assert abs(np.mean(values)) < 3 * np.std(values) / 400**0.5


def test_clips_of_one_recording_make_no_distance_though_they_are_alike() -> None:
    def sample(seed: int) -> tuple[NDArray[np.float64], list[str]]:
        rng = np.random.default_rng(seed)
        recording = rng.normal(size=(12, 1, 4))
        return (recording + 0.1 * rng.normal(size=(12, 4, 4))).reshape(48, 4), [str(n // 4) for n in range(48)]

    def drawn(told: bool) -> list[float]:
        pairs = [(sample(s), sample(10_000 + s)) for s in range(200)]
        return [
            mmd(*(FeatureSample.of(features, recordings if told else None) for features, recordings in pair)).value
            for pair in pairs
        ]

    values = drawn(told=True)
    assert abs(np.mean(values)) < 3 * np.std(values) / 200**0.5
    assert np.mean(drawn(told=False)) > 10 * np.std(values) / 200**0.5  # what it would be without the recordings


@pytest.mark.parametrize("moved", [0.0, 0.15, 0.8])
def test_the_error_of_mmd_is_how_much_it_varies(moved: float) -> None:
    found = [
        mmd(FeatureSample.of(normal(s, 60)), FeatureSample.of(normal(10_000 + s, 80, moved=moved))) for s in range(300)
    ]
    stated = np.mean([one.error**2 for one in found]) ** 0.5
    assert stated == pytest.approx(np.std([one.value for one in found]), rel=0.15)


def test_nine_of_ten_intervals_of_two_errors_hold_the_true_distance() -> None:
    true = np.mean(
        [
            mmd(FeatureSample.of(normal(s, 400)), FeatureSample.of(normal(900 + s, 400, moved=0.5))).value
            for s in range(40)
        ]
    )
    found = [
        mmd(FeatureSample.of(normal(s, 60)), FeatureSample.of(normal(10_000 + s, 60, moved=0.5))) for s in range(300)
    ]
    held = np.mean([abs(one.value - true) < 2 * one.error for one in found])
    assert 0.9 < held < 0.99


@pytest.mark.parametrize("paired", [True, False])
def test_the_error_of_a_difference_is_how_much_it_varies(paired: bool) -> None:
    differences, errors = [], []
    for seed in range(300):
        real, one = FeatureSample.of(normal(seed, 60)), normal(10_000 + seed, 60)
        other = one if paired else normal(20_000 + seed, 60)
        near, far = mmd(real, FeatureSample.of(one + 0.4)), mmd(real, FeatureSample.of(other + 0.6))
        difference, error = farther(far, near, paired=paired)
        differences.append(difference)
        errors.append(error)
    assert np.mean(np.square(errors)) ** 0.5 == pytest.approx(np.std(differences), rel=0.2)


def test_frechet_of_many_normal_samples_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    a_FF, b_FF, moved_F = rng.normal(size=(4, 4)), rng.normal(size=(4, 4)), np.array([1.0, 0, -0.5, 0])
    x_NF, y_NF = rng.normal(size=(40_000, 4)) @ a_FF, rng.normal(size=(40_000, 4)) @ b_FF + moved_F
    c_FF, d_FF = a_FF.T @ a_FF, b_FF.T @ b_FF
    true = moved_F @ moved_F + np.trace(c_FF + d_FF - 2 * sqrtm(c_FF @ d_FF).real)
    found = frechet(FeatureSample.of(x_NF), FeatureSample.of(y_NF))
    assert abs(found.value - true) < 4 * found.error < 0.1 * true


def test_the_error_of_frechet_is_how_much_it_varies_and_its_bias_shows() -> None:
    found = [
        frechet(FeatureSample.of(normal(s, 120)), FeatureSample.of(normal(10_000 + s, 120, moved=0.5)))
        for s in range(150)
    ]
    assert np.mean([one.error for one in found]) == pytest.approx(np.std([one.value for one in found]), rel=0.25)
    floors = [
        np.mean(
            [
                frechet(FeatureSample.of(normal(s, count)), FeatureSample.of(normal(5000 + s, count))).value
                for s in range(20)
            ]
        )
        for count in (40, 160, 640)
    ]
    assert floors[0] > 3 * floors[1] > 9 * floors[2] > 0


def test_distances_do_not_depend_on_order_or_on_a_turn_of_the_features() -> None:
    x_NF, y_NF = normal(0, 50), normal(1, 50, moved=0.3)
    turn_FF = np.linalg.qr(normal(2, 6))[0]
    order = np.random.default_rng(3).permutation(50)
    for of in (mmd, frechet):
        plain = of(FeatureSample.of(x_NF), FeatureSample.of(y_NF)).value
        assert of(FeatureSample.of(y_NF), FeatureSample.of(x_NF)).value == pytest.approx(plain, rel=1e-9)
        assert of(FeatureSample.of(x_NF @ turn_FF), FeatureSample.of(y_NF[order] @ turn_FF)).value == pytest.approx(
            plain, rel=1e-9
        )
    assert frechet(FeatureSample.of(x_NF), FeatureSample.of(x_NF)).value == pytest.approx(0, abs=1e-9)


def test_fewer_than_four_samples_per_feature_are_refused() -> None:
    with pytest.raises(InputError, match=r"23 samples for 6 features; 24 or more, 4 per feature; take more samples"):
        frechet(FeatureSample.of(normal(0, 23)), FeatureSample.of(normal(1, 40)))
    with pytest.raises(InputError, match="clips of 2 and 40 recordings"):
        mmd(FeatureSample.of(normal(0, 2)), FeatureSample.of(normal(1, 40)))


def test_the_jackknife_of_a_mean_is_its_variance() -> None:
    x_N = normal(0, 30, 1)[:, 0]
    without_N = np.array([np.delete(x_N, place).mean() for place in range(30)])
    assert jackknife(without_N) == pytest.approx(x_N.var(ddof=1) / 30)


# What clips are spoilt by


@pytest.mark.parametrize("name", LEARNED)
def test_a_spoilt_clip_keeps_its_size_and_is_spoilt_alike_again(name: str) -> None:
    clip_CTYX = torch.randn(4, 5, 4, 4)
    for strength in (0.2, 1.0):
        one, other = (LEARNED[name](clip_CTYX, strength, torch.Generator().manual_seed(3)) for _ in range(2))
        assert one.shape == clip_CTYX.shape
        assert torch.equal(one, other)
        assert not torch.equal(one, clip_CTYX)


def test_shuffled_time_has_the_same_frames_and_frozen_time_has_one() -> None:
    clip_CTYX = torch.randn(4, 5, 4, 4)
    for seed in range(20):
        found = shuffled(clip_CTYX, 1.0, torch.Generator().manual_seed(seed))
        assert torch.equal(found.sum(1).sort().values, clip_CTYX.sum(1).sort().values) or torch.allclose(
            found.sum(1), clip_CTYX.sum(1), atol=1e-5
        )
        assert not torch.equal(found, clip_CTYX)
    assert not SHOWN["frozen"](clip_CTYX, 1.0, torch.Generator()).diff(dim=1).any()
    both = spliced(clip_CTYX, -clip_CTYX, torch.Generator().manual_seed(0))
    assert torch.equal(both[:, 0], clip_CTYX[:, 0])
    assert torch.equal(both[:, -1], -clip_CTYX[:, -1])


# Networks


def test_equal_data_and_seed_give_equal_networks_and_others_give_others(clips: Clips) -> None:
    one, same, other = (learned(clips, features=4, steps=5, seed=seed) for seed in (0, 0, 1))
    assert one.heading == same.heading
    assert {*one.heading.digests.values()}.isdisjoint(other.heading.digests.values())
    assert random_network(clips, features=4).digest == one.random.digest


def test_networks_know_spoilt_clips_of_recordings_that_they_have_not_seen(networks: FeatureNetworks) -> None:
    assert networks.heading.accuracy > 0.4  # by chance an eighth


def test_features_of_a_clip_do_not_depend_on_the_clips_beside_it(clips: Clips, networks: FeatureNetworks) -> None:
    latents = clips.latents(range(70))
    for network in networks.both:
        whole, order = network(latents), torch.randperm(70, generator=torch.Generator().manual_seed(0))
        assert np.abs(network(latents[order]) - whole[order.numpy()]).max() < 1e-5
        assert np.abs(network(latents[40:41]) - whole[40:41]).max() < 1e-5
        assert whole.std() > 0.3


def test_features_are_normal_over_the_training_split(clips: Clips, networks: FeatureNetworks) -> None:
    latents = clips.latents([clip.id for clip in clips.of("train")])
    x = networks.random.normalised(latents)
    assert x.mean((0, 2, 3, 4)).abs().max() < 1e-4
    assert (x.std((0, 2, 3, 4)) - 1).abs().max() < 1e-3
    assert torch.allclose(networks.random.as_in_data(x), latents, atol=1e-5)
    for network in networks.both:
        z = network(latents)
        assert np.abs((np.sign(z) * np.expm1(np.abs(z))).mean(0)).max() < 1e-4


def test_networks_are_read_as_they_were_written_without_a_pickle(
    tmp_path: Path, clips: Clips, networks: FeatureNetworks
) -> None:
    networks.save(tmp_path / "n.safetensors")
    found = FeatureNetworks.load(tmp_path / "n.safetensors")
    assert found.heading == networks.heading
    latents = clips.latents(range(8))
    for network, read in zip(networks.both, found.both, strict=True):
        assert np.array_equal(network(latents), read(latents))
    assert [path.name for path in tmp_path.iterdir()] == ["n.safetensors"]
    assert b"PK\x03\x04" not in (tmp_path / "n.safetensors").read_bytes()[:4]


def test_networks_that_were_changed_are_refused(tmp_path: Path, networks: FeatureNetworks) -> None:
    path = tmp_path / "n.safetensors"
    networks.save(path)
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    for place in (8 + size, len(whole) - 1, (len(whole) + size) // 2):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match="were changed since they were written"):
            FeatureNetworks.load(path)
    for content in (whole[:100], b"", whole[: len(whole) // 2], b"{}"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="distance train"):
            FeatureNetworks.load(path)
    with pytest.raises(InputError, match="cannot be read"):
        FeatureNetworks.load(tmp_path / "none")


def test_a_disk_that_fails_leaves_no_half_file(
    tmp_path: Path, networks: FeatureNetworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "n.safetensors"
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        networks.save(path)
    assert not path.exists()


def test_the_shipped_networks_are_whole_and_small() -> None:
    found = FeatureNetworks.load(SHIPPED)
    assert SHIPPED.stat().st_size < 2_000_000
    assert found.heading.features == 64
    assert found.heading.accuracy > 0.5


# What a measure sees


def test_each_spoilt_row_stands_above_the_floor(yardstick: Yardstick) -> None:
    floor, *spoilt = yardstick.checked()
    assert [one.row.name for one in spoilt] == list(SHOWN)
    assert floor.row.distances["random"].above_floor == 0
    for one in floor.row.distances.values():
        assert abs(one.mmd) < 4 * one.mmd_error
    for one in spoilt:
        assert one.row.name not in NEEDED or max(own.above_floor for own in one.row.distances.values()) > 5
    by_name = {one.row.name: one.row for one in spoilt}
    assert by_name["frozen"].motion_ratio == 0
    assert by_name["blurred"].std_ratio < floor.row.std_ratio
    assert by_name["shuffled"].std_ratio == pytest.approx(floor.row.std_ratio, rel=1e-6)


def test_a_measure_that_is_blind_to_time_is_refused(
    clips: Clips, networks: FeatureNetworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s2search.training.distance.networks import Differences

    whole = Differences.forward

    def still(self: Differences, x_BCTYX: torch.Tensor) -> torch.Tensor:  # the mean over time sees no order
        mean = x_BCTYX.mean(2, keepdim=True)
        return whole(self, mean.expand_as(x_BCTYX))

    monkeypatch.setattr(Differences, "forward", still)
    with pytest.raises(InputError, match=r"cannot tell from real clips: .*shuffled \(.*above 5 by one network"):
        Yardstick.of(clips, networks, N).checked()


def test_halves_share_no_recording_and_too_few_are_told(clips: Clips) -> None:
    first, second = halves(clips, N)
    assert len(first) == len(second) == N
    assert {clip.digest for clip in first}.isdisjoint({clip.digest for clip in second})
    assert all(clip.split == "held-out" for clip in (*first, *second))
    with pytest.raises(InputError, match=r"121 samples need 242 held-out clips.* has 240; .*--samples 120"):
        halves(clips, 121)


def test_networks_of_other_data_are_refused(tmp_path: Path, clips: Clips, networks: FeatureNetworks) -> None:
    turned = dataclasses.replace(
        clips,
        shards=tuple(
            _with_clips(shard, lambda clip: "train" if clip.split == "held-out" else "held-out")
            for shard in clips.shards
        ),
    )
    with pytest.raises(InputError, match="were trained on 240 recordings"):
        networks.check_data(turned)
    from msgspec.structs import replace

    other = dataclasses.replace(clips, heading=replace(clips.heading, codec_digest="sha256:" + "0" * 64))
    with pytest.raises(InputError, match="trained on latents of sha256:"):
        networks.check_data(other)
    with pytest.raises(InputError, match="63 samples for 16 features; 64 or more"):
        Yardstick.of(clips, networks, 63)


def _with_clips(shard: Any, split: Callable[[Any], str]) -> Any:
    from msgspec.structs import replace

    return replace(shard, clips=tuple(replace(clip, split=split(clip)) for clip in shard.clips))


def test_a_claim_holds_only_where_both_networks_say_so(yardstick: Yardstick, clips: Clips) -> None:
    latents = clips.latents([clip.id for clip in yardstick.second])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(latents.shape, generator=generator)
    rows = {
        name: yardstick.measured(name, "model", see(yardstick.networks.both, [spoilt]))
        for name, spoilt in {"near": latents + 0.05 * noise, "far": noise * 2, "as near": latents}.items()
    }
    claim = nearer(rows["far"], rows["near"])
    assert (claim.nearer, claim.than, claim.holds) == ("near", "far", True)
    assert nearer(rows["near"], rows["far"]) == claim
    assert not nearer(rows["near"], rows["as near"]).holds or nearer(rows["near"], rows["as near"]).nearer == "as near"
    swapped = dataclasses.replace(
        rows["near"], mmds={"random": rows["far"].mmds["random"], "trained": rows["near"].mmds["trained"]}
    )
    far = dataclasses.replace(
        rows["far"], mmds={"random": rows["near"].mmds["random"], "trained": rows["far"].mmds["trained"]}
    )
    assert not nearer(swapped, far).holds  # one says this, one says that


def test_only_what_cannot_be_told_is_listed_so() -> None:
    def lines(*holds: bool) -> list[str]:
        claims = tuple(
            Claim(nearer=f"a{i}", than=f"b{i}", by={"random": 1.0}, errors={"random": 4.0 if one else 1.0}, holds=one)
            for i, one in enumerate(holds)
        )
        found = Distances(
            **{"data": "", "codec": "", "samples": 8, "recordings": 8, "seed": 0, "networks": {}, "rows": ()},
            **{"claims": claims, "s2search": "", "torch": ""},
        )
        return distance_lines(found)

    always = lines()
    assert lines(True) == [*always, "a0 is nearer than b0: by 4.0 standard errors"]
    *told, open_ones = lines(False, True, False)
    assert told == [*always, "a1 is nearer than b1: by 4.0 standard errors"]
    assert open_ones.startswith("which is nearer cannot be told")
    assert open_ones.endswith(": a0 or b0 (1.0); a2 or b2 (1.0)")


# What models make

FORMS = {
    "whole": None,
    "flow, clean": CausalForm(commit="clean_pass", level=0.0),
    "flow, last": CausalForm(commit="reuse_last", level=0.625),
    "few, clean": CausalForm(commit="clean_pass", level=0.0, schedule=(1.0, 0.8)),
    "few, last": CausalForm(commit="reuse_last", level=0.8, schedule=(1.0, 0.8)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_samples_do_not_depend_on_what_is_made_beside_them(
    made: Path, clips: Clips, tmp_path: Path, form: CausalForm | None
) -> None:
    asked, one = clips.of("held-out")[:6], maker(made, clips, form)
    made_by = {
        batch: torch.cat(list(generate(one, clips, asked, tmp_path / str(batch), seed=3, batch=batch)))
        for batch in (2, 4, 6)
    }
    assert made_by[6].shape == (6, *clips.heading.latent_size)
    for batch in (2, 4):
        assert (made_by[batch] - made_by[6]).abs().max() < 1e-5
    again = torch.cat(list(generate(one, clips, asked, tmp_path / "again", seed=4, batch=6)))
    assert (again - made_by[6]).abs().max() > 0.1
    assert len({tuple(sample.flatten()[:4].tolist()) for sample in again}) == 6  # each has noise of its own


def test_few_steps_are_the_streams_own_sampler(made: Path, clips: Clips) -> None:
    for name in ("few, clean", "few, last"):
        form = FORMS[name]
        assert form is not None
        one = maker(made, clips, form)
        text_BSE = one.captions.tokens(["a", "b"])
        state = StreamState.start(one.model, (2, 2), seed=1, batch=2, first=5)
        sampler, chunks = FewStepSampler(schedule=form.schedule, commit=form.commit), []
        for _ in range(3):
            z_BCTYX, state = sampler.next_chunk(one.model, text_BSE, state)
            chunks.append(z_BCTYX)
        assert torch.equal(one.made((4, 5, 4, 4), ["a", "b"], 1, 5), torch.cat(chunks, 2)[:, :, :5])


def test_along_the_flow_one_clean_step_is_a_few_step_sampler_of_one_step(made: Path, clips: Clips) -> None:
    flow, few = (CausalForm(commit="clean_pass", level=0.0, schedule=schedule) for schedule in (None, (1.0,)))
    size = (4, 5, 4, 4)
    one, other = (maker(made, clips, form, steps=1).made(size, ["a"], 0, 0) for form in (flow, few))
    assert torch.allclose(one, other, atol=1e-6)
    more, fewer = (maker(made, clips, flow, steps=steps).made(size, ["a"], 0, 0) for steps in (64, 128))
    assert (more - fewer).abs().max() < 0.3 * (one - fewer).abs().max()  # it goes somewhere


def test_past_chunks_are_seen_at_the_noise_level_of_training(made: Path, clips: Clips) -> None:
    levels: list[float] = []
    one = maker(made, clips, FORMS["flow, last"])
    commit = one.model.commit

    def told(x_BCTYX: Any, s_BT: torch.Tensor, *rest: Any) -> Any:
        levels.append(float(s_BT.mean()))
        return commit(x_BCTYX, s_BT, *rest)

    one.model.commit = told  # type: ignore[method-assign]
    one.made((4, 5, 4, 4), ["a"], 0, 0)
    assert levels == [0.625] * 3


def test_generation_goes_on_where_it_was_killed_to_the_same_bytes(made: Path, clips: Clips, tmp_path: Path) -> None:
    asked, one = clips.of("held-out")[:6], maker(made, clips, FORMS["few, clean"])
    whole = list(generate(one, clips, asked, tmp_path / "whole", seed=0, batch=2))
    begun = generate(one, clips, asked, tmp_path / "killed", seed=0, batch=2)
    next(begun)
    begun.close()
    (tmp_path / "killed" / "000001.safetensors").write_bytes(b"half")  # a file without its line
    assert all(
        torch.equal(*pair)
        for pair in zip(whole, generate(one, clips, asked, tmp_path / "killed", seed=0, batch=2), strict=True)
    )
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "killed").iterdir())
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def test_samples_of_another_question_or_changed_ones_are_refused(made: Path, clips: Clips, tmp_path: Path) -> None:
    asked, one = clips.of("held-out")[:4], maker(made, clips)
    list(generate(one, clips, asked, tmp_path, seed=0, batch=2))
    with pytest.raises(InputError, match="belongs to another generation of samples: seed is 0 there and 1 here"):
        list(generate(one, clips, asked, tmp_path, seed=1, batch=2))
    path = tmp_path / "000001.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="was changed since it was written; remove it"):
        list(generate(one, clips, asked, tmp_path, seed=0, batch=2))
    path.unlink()
    list(generate(one, clips, asked, tmp_path, seed=0, batch=2))
    assert path.read_bytes() == whole


def test_what_cannot_be_made_is_refused(made: Path, clips: Clips, tmp_path: Path, model: S2DiT) -> None:
    model.config = dataclasses.replace(model.config, causal=FORMS["few, last"])
    model.save_pretrained(tmp_path / "causal")
    device = torch.device("cpu")
    with pytest.raises(InputError, match="1 step of a model that was trained to commit what its last step saw"):
        Maker.of(tmp_path / "causal", clips, device, steps=1, text=None)
    assert Maker.of(tmp_path / "causal", clips, device, steps=None, text=None).steps == 2
    assert Maker.of(made / "model", clips, device, steps=None, text=None).steps == 50
    S2DiT.from_preset(SIZES, "LS", velocity="plain").save_pretrained(tmp_path / "wide")
    with pytest.raises(InputError, match="latents of 4 channels, and the model denoises 16"):
        Maker.of(tmp_path / "wide", clips, device, steps=None, text=None)
    broken = maker(made, clips)
    next(broken.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(CheckError, match=r"sample 0 of .* not finite"):
        list(generate(broken, clips, clips.of("held-out")[:2], tmp_path / "broken", seed=0, batch=2))


def test_a_models_row_states_its_steps_and_the_speed_of_a_stream(
    made: Path, clips: Clips, tmp_path: Path, yardstick: Yardstick
) -> None:
    for form in (None, FORMS["few, clean"]):
        one = maker(made, clips, form)
        row = model_row(one, yardstick, tmp_path / str(form), seed=0, batch=16, progress=lambda *_: None).row
        assert row.steps == 2
        assert (row.speed is None) == (form is None)
        if row.speed is not None:
            assert row.speed.fps == pytest.approx(SIZES.chunk_frames * 4 / (row.speed.chunk_ms / 1000))
        assert min(own.above_floor for own in row.distances.values()) > 3  # its weights are random


# What trainers watch


def test_a_watcher_says_the_same_of_the_same_and_sees_what_is_frozen_or_saturated(
    clips: Clips, networks: FeatureNetworks
) -> None:
    watch = HeldOutDistance.of(clips, networks.both, 32)
    latents = clips.latents([clip.id for clip in clips.of("train")[:32]])
    real = watch(latents)
    assert real == HeldOutDistance.of(clips, networks.both, 32)(latents)
    assert not real.frozen
    assert not real.saturated
    still = watch(latents[:, :, :1].expand_as(latents))
    assert still.frozen
    assert still.motion_ratio == 0
    assert still.mmd["trained"] > real.mmd["trained"] + 3 * still.mmd_error["trained"]
    assert watch(latents * 2).saturated
    assert watch(latents * 2).std_ratio == pytest.approx(2 * real.std_ratio, rel=0.01)
    assert len(watch.captions(100)) == 100
    assert set(watch.captions(8)) <= {clip.caption for clip in watch.clips}


def test_a_watcher_refuses_what_it_cannot_look_at(clips: Clips) -> None:
    watch = HeldOutDistance.of(clips, [random_network(clips, features=8)], 500)
    latents = clips.latents(range(16))
    assert list(watch(latents).mmd) == ["random"]
    latents[3, 0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="sample 3 has numbers that are not finite"):
        watch(latents)
    with pytest.raises(InputError, match=r"latents of the size \(16, 2, 5, 4, 4\); clips of 4 channels"):
        watch(latents[:, :2])
    with pytest.raises(InputError, match="a distance of 7 samples; 8 or more"):
        watch(latents[:7])


# The commands


@pytest.fixture(scope="module")
def measured(made: Path) -> Iterator[Path]:
    folder = made / "commands"
    folder.mkdir()
    done = run_here(
        ("distance", "train", str(made / "clips"), "--out", "n.safetensors", "--features", "16", "--steps", "600"),
        folder,
    )
    assert (done.code, done.out.splitlines()[0]) == (
        0,
        "n.safetensors: 16 features of each network, for latents of 4 channels",
    )
    return folder


def words(made: Path, *more: str) -> tuple[str, ...]:
    return (
        *("distance", "measure", *more, "--data", str(made / "clips")),
        *("--network", "n.safetensors", "--samples", str(N)),
    )


def test_a_table_has_real_and_spoilt_clips_above_models_of_all_steps(made: Path, measured: Path) -> None:
    (measured / "model").exists() or (measured / "model").symlink_to(made / "model")
    done = run_here(words(made, "model", "--steps", "1,3", "--csv", "rows.csv"), measured)
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    names = ["real", *SHOWN, "model", "model"]
    with (measured / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == names
    assert [row["steps"] for row in rows[-2:]] == ["1", "3"]
    saved = json.loads((measured / "distance" / "distance.json").read_text())
    jsonschema.validate(saved, s2search.schema("distance"))
    assert len(saved["claims"]) == 1
    shown = run_here((*words(made, "model", "--steps", "1,3"), "--json"), measured)
    assert json.loads(shown.out)["rows"][:6] == saved["rows"][:6]
    assert [row["distances"] for row in json.loads(shown.out)["rows"]] == [row["distances"] for row in saved["rows"]]


def test_journals_of_samples_keep_to_their_schema(made: Path, measured: Path) -> None:
    folder = measured / "distance" / "samples"
    if not folder.exists():
        pytest.skip("the table's test makes them")
    for journal in folder.glob("*/generated.jsonl"):
        for line in journal.read_text().splitlines():
            jsonschema.validate(json.loads(line), s2search.schema("generated"))
    assert GeneratedHeading.__struct_config__.tag == "generated"
    assert GeneratedShard.__struct_config__.tag == "shard"


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("--samples", "20"), "20 samples for 16 features; 64 or more, 4 per feature"),
        (("--samples", "130"), "130 samples need 260 held-out clips"),
        (("nowhere",), "there is no folder of weights 'nowhere'"),
        (("nowhere", "nowhere"), "the model 'nowhere' is named twice"),
        (("nowhere", "--steps", "1,1"), "steps are '1,1'; different whole numbers from 1 to 1000"),
        (("nowhere", "--steps", "many"), "steps are 'many'"),
        (("--network", "nothing"), "the networks 'nothing' cannot be read"),
    ],
)
def test_what_does_not_go_together_is_one_line(made: Path, measured: Path, more: tuple[str, ...], line: str) -> None:
    done = run_here((*words(made), *more), measured)
    assert done.code == 2
    assert line in done.err
    assert done.err.count("\n") == 1


def test_random_weights_in_a_file_are_those_of_its_seed(made: Path, measured: Path, clips: Clips) -> None:
    own = load_file(measured / "n.safetensors")
    drawn = random_network(clips, features=16).tensors()
    assert all(torch.equal(own[f"random.{name}"], tensor) for name, tensor in drawn.items())

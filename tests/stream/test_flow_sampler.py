"""The sampler of models that follow the flow, and what both samplers promise."""

import dataclasses
import hashlib
import json
import re
from itertools import pairwise

import msgspec
import pytest
import torch
from safetensors import safe_open

from s2search.errors import InputError
from s2search.network.config import CausalForm
from s2search.network.flow import few_step_schedule, renoise
from s2search.network.weight_file import weights_digest
from s2search.streaming.flow_sampler import FlowSampler
from s2search.streaming.sampler import FewStepSampler
from s2search.streaming.sampler_of import briefly, sampler_of
from s2search.streaming.state import StreamState
from tests.stream.test_invariants import chunks_of, leaves
from tests.stream.test_sampler import Recorder

FOUR = few_step_schedule(4)
NOISY = FlowSampler(schedule=few_step_schedule(6), commit="reuse_last", level=0.625)
SAMPLERS = {
    "1 step, clean": FewStepSampler(schedule=(1.0,), commit="clean_pass"),
    "2 steps": FewStepSampler(schedule=few_step_schedule(2)),
    "4 steps": FewStepSampler(),
    "flow, clean": FlowSampler(schedule=few_step_schedule(6)),
    "flow, noisy": NOISY,
}
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def trained(model, **form):
    """Let a model's config say that it was trained to stream so."""
    model.config = dataclasses.replace(model.config, causal=CausalForm(**form))
    return model


def streams_equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(leaves(one.layers), leaves(other.layers), strict=True))


def test_a_straight_flow_is_followed_to_its_end_by_any_number_of_steps(make):
    """Where all flow lines lead straight to one point, v = (x - z) / s, and Euler steps make no error."""
    target = make.latents(2)

    class Straight(Recorder):
        def __call__(self, x, s, text, state):
            return (x - target) / s.view(-1, 1, 1, 1, 1)

    model = make.model()
    for steps in (1, 2, 7, 50):
        sampler = FlowSampler(schedule=few_step_schedule(steps))
        latents, _ = sampler.next_chunk(Straight(model), make.text(), StreamState.start(model, (3, 5)))
        torch.testing.assert_close(latents, target, rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_clip_that_is_one_chunk_is_what_a_naive_loop_over_the_bidirectional_model_gives(make):
    model, text = make.model(), make.text()
    state = StreamState.start(model, (3, 5), seed=3)
    noise = [torch.randn((16, 7, 6, 10), generator=g, dtype=torch.float32) for g in state.noise(torch.device("cpu"))]
    x = torch.stack(noise).double()
    levels = [5 * u / (1 + 4 * u) for u in (1 - k / 10 for k in range(11))]
    for s, after in pairwise(levels):
        x = x + (after - s) * model(x, torch.full((1, 1), s, dtype=torch.float64), text)
    found, _ = FlowSampler(schedule=few_step_schedule(10)).next_chunk(model, text, state, frames=7)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-11)


def test_it_asks_at_its_levels_and_commits_by_a_pass_of_its_own(make):
    model = Recorder(make.model())
    NOISY.next_chunk(model, make.text(), StreamState.start(model.model, (3, 5)))
    asked = [("read", round(s, 4)) for s in few_step_schedule(6)]
    assert model.calls == [*asked, ("commit", 0.625)]
    assert len(model.calls) == NOISY.passes


def test_committed_clean_is_what_the_clean_pass_of_few_steps_commits(make):
    model, text, z = make.model(), make.text(), make.latents(2, seed=5)
    start = StreamState.start(model, (3, 5), seed=2)
    flow = FlowSampler().commit_chunk(model, text, start, z, None)
    few = FewStepSampler(commit="clean_pass").commit_chunk(model, text, start, z, None)
    assert streams_equal(flow, few)


@torch.no_grad()
def test_committed_noisy_is_the_clean_chunk_under_noise_that_no_step_has_seen(make):
    model, text, z = make.model(), make.text(), make.latents(2, (9, 16), seed=5)
    start, seen = StreamState.start(model, (9, 16), seed=2), []

    class Watched(Recorder):
        def commit(self, x, s, text, state):
            seen.append((x - (1 - 0.625) * z) / 0.625)
            return super().commit(x, s, text, state)

    after = NOISY.commit_chunk(Watched(model), text, start, z, None)
    first = next(NOISY.steps(model, text, start)).x_BCTYX
    assert seen[0].std().item() == pytest.approx(1, abs=0.05)
    assert abs(torch.corrcoef(torch.stack([seen[0].flatten(), first.flatten()]))[0, 1]) < 0.05
    expected = model.commit(
        renoise(z, 0.625, seen[0]), torch.full((1, 1), 0.625, dtype=torch.float64), text, start.layers
    )
    for a, b in zip(leaves(after.layers), leaves(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@every_sampler
def test_a_chunk_can_be_made_and_committed_again_from_the_same_state(make, sampler):
    model, text = make.model(), make.text()
    _, state = chunks_of(sampler, model, text, StreamState.start(model, (3, 5), seed=7), 2)
    before = [leaf.clone() for leaf in leaves(state.layers)]
    (one, left), (other, right) = (sampler.denoise(model, text, state) for _ in range(2))
    assert torch.equal(one, other)
    first, second = (sampler.commit_chunk(model, text, state, one, layers) for layers in (left, right))
    assert streams_equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(before, leaves(state.layers), strict=True))


@every_sampler
@pytest.mark.parametrize("chunk_frames", [1, 3])
def test_a_stream_saved_in_the_middle_goes_on_bit_equal(make, sampler, chunk_frames, tmp_path):
    model = make.model(dtype=torch.float32, chunk_frames=chunk_frames)
    text, start = make.text(dtype=torch.float32), StreamState.start(model, (3, 5), seed=7)
    whole, _ = chunks_of(sampler, model, text, start, 4)
    first, state = chunks_of(sampler, model, text, start, 2)
    state.save(tmp_path / "state.safetensors")
    again, _ = chunks_of(sampler, model, text, StreamState.load(tmp_path / "state.safetensors", model), 2)
    assert torch.equal(torch.cat((first, again), dim=2), whole)


@every_sampler
@pytest.mark.parametrize("chunk_frames", [1, 3])
def test_rows_of_a_batch_are_streams_alone_by_their_numbers(make, sampler, chunk_frames):
    model, texts = make.model("SLLS", chunk_frames=chunk_frames), make.text(batch=3)
    together, _ = chunks_of(sampler, model, texts, StreamState.start(model, (3, 5), seed=4, batch=3, first=2), 3)
    for row in range(3):
        alone = StreamState.start(model, (3, 5), seed=4, first=2 + row)
        found, _ = chunks_of(sampler, model, texts[row : row + 1], alone, 3)
        torch.testing.assert_close(found[0], together[row], rtol=0, atol=1e-9)


@every_sampler
def test_a_stream_goes_on_by_no_other_sampler(make, sampler, tmp_path):
    model, text = make.model(dtype=torch.float32), make.text(dtype=torch.float32)
    _, state = sampler.next_chunk(model, text, StreamState.start(model, (3, 5)))
    state.save(tmp_path / "state.safetensors")
    state = StreamState.load(tmp_path / "state.safetensors", model)
    for other in SAMPLERS.values():
        if other != sampler:
            with pytest.raises(InputError, match="the state is"):
                other.next_chunk(model, text, state)


def test_few_steps_and_the_flow_with_the_same_levels_and_policy_are_two_samplers(make):
    """Their headers would be equal but for the level that the flow commits at."""
    model, text = make.model(), make.text()
    for flow in (FlowSampler(schedule=FOUR), FlowSampler(schedule=FOUR, commit="reuse_last", level=0.625)):
        few = FewStepSampler(schedule=FOUR, commit=flow.commit)
        for one, other in ((flow, few), (few, flow)):
            _, state = one.next_chunk(model, text, StreamState.start(model, (3, 5)))
            with pytest.raises(InputError, match="sampled along the flow and committed at the noise level"):
                other.next_chunk(model, text, state)


def test_a_state_of_few_steps_has_the_digest_that_it_had_before_there_was_a_flow(make, tmp_path):
    model, text = make.model(dtype=torch.float32), make.text(dtype=torch.float32)
    digests = {}
    for name, sampler in {"few": FewStepSampler(), "flow": FlowSampler(schedule=FOUR)}.items():
        sampler.next_chunk(model, text, StreamState.start(model, (3, 5)))[1].save(tmp_path / name)
        with safe_open(tmp_path / name, framework="pt") as file:
            header = json.loads(file.metadata()["header"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        digests[name] = header.pop("digest")
        before = {key: value for key, value in header.items() if key not in ("first", "flow_level")}
        before |= {"digest": weights_digest(tensors.items())}
        found = f"sha256:{hashlib.sha256(msgspec.json.encode(before)).hexdigest()}"
        assert (found == digests[name]) == (name == "few")


@pytest.mark.parametrize(("commit", "level"), [("reuse_last", 0.0), ("clean_pass", 0.5), ("reuse_last", 1.0)])
def test_a_level_that_contradicts_its_policy_is_refused(commit, level):
    with pytest.raises(InputError, match="past chunks committed by"):
        FlowSampler(commit=commit, level=level)


def test_layers_of_a_step_are_no_commit_of_the_flow(make):
    model, text, start = make.model(), make.text(), StreamState.start(make.model(), (3, 5))
    with pytest.raises(InputError, match="by a pass of its own"):
        FlowSampler().commit_chunk(model, text, start, make.latents(2), start.layers)


# The sampler of a model


def test_weights_that_do_not_say_so_take_what_is_asked_for(make):
    config = make.model().config
    assert sampler_of(config) == FewStepSampler()
    assert sampler_of(config, steps=1, shift=3.0, commit="clean_pass") == FewStepSampler(
        schedule=(1.0,), commit="clean_pass"
    )
    assert sampler_of(config, steps=1).commit == "reuse_last"


def test_trained_weights_have_a_sampler_of_their_own(make):
    two = few_step_schedule(2, 3.0)
    few = trained(make.model(), commit="reuse_last", level=two[-1], schedule=two).config
    flow = trained(make.model(), commit="reuse_last", level=0.625).config
    assert sampler_of(few) == sampler_of(few, steps=2) == sampler_of(few, shift=3.0) == briefly(few)
    assert sampler_of(few) == FewStepSampler(schedule=two)
    assert sampler_of(flow) == FlowSampler(schedule=few_step_schedule(50), commit="reuse_last", level=0.625)
    assert sampler_of(flow, steps=1, shift=1.0) == FlowSampler(schedule=(1.0,), commit="reuse_last", level=0.625)
    assert briefly(flow) == dataclasses.replace(sampler_of(flow), schedule=FOUR)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"steps": 2}, "the weights were trained for 4 steps (1, 0.9375, 0.8333, 0.625), and 2 steps (1, 0.8333) are"),
        ({"shift": 3.0}, "(1, 0.9375, 0.8333, 0.625), and 4 steps (1, 0.9, 0.75, 0.5) are asked for"),
        ({"commit": "clean_pass"}, "were trained with --commit reuse_last, and clean_pass is asked for"),
        ({"steps": 1}, "0.625), and 1 step (1) is asked for"),
        ({"steps": 0}, "a schedule of 0 steps"),
    ],
    ids=str,
)
def test_what_weights_were_not_trained_for_is_refused_in_one_line(make, asked, line):
    config = trained(make.model(), commit="reuse_last", level=0.625, schedule=FOUR).config
    with pytest.raises(InputError, match=re.escape(line)) as raised:
        sampler_of(config, **asked)
    assert len(str(raised.value).splitlines()) == 1
    assert raised.value.remedy


def test_weights_of_the_flow_have_no_other_commit(make):
    config = trained(make.model(), commit="clean_pass", level=0.0).config
    with pytest.raises(InputError, match="trained with --commit clean_pass, and reuse_last is asked for"):
        sampler_of(config, commit="reuse_last")


def test_trained_weights_refuse_another_sampler_window_or_chunk_wherever_they_are_asked(make):
    own = {"commit": "reuse_last", "level": 0.625, "schedule": FOUR}
    model, text = trained(make.model(), **own), make.text()
    start = StreamState.start(model, (3, 5))
    FewStepSampler().next_chunk(model, text, start, frames=2)
    for sampler, line in {
        FewStepSampler(commit="clean_pass"): "--commit reuse_last, and clean_pass",
        FewStepSampler(schedule=(1.0, 0.625)): "trained for 4 steps",
        FewStepSampler(schedule=(1.0,)): "trained for 4 steps",
        FlowSampler(schedule=FOUR, commit="reuse_last", level=0.5): "at the noise level 0.625, and 0.5",
    }.items():
        with pytest.raises(InputError, match=line):
            sampler.next_chunk(model, text, start)
    with pytest.raises(InputError, match="chunks of 2 latent frames, and 3 are asked for"):
        FewStepSampler().next_chunk(model, text, start, frames=3)
    measured = FewStepSampler(schedule=(1.0, 0.625), as_trained=False)
    measured.next_chunk(model, text, start, frames=2)
    other = dataclasses.replace(model.config.preset.window, frames=6)
    with pytest.raises(InputError, match="a window of 4 frames, and a window of 6 frames is asked for"):
        StreamState.start(model, (3, 5), window=other)
    assert StreamState.start(model, (3, 5), window=model.config.preset.window).header == start.header


def test_one_step_that_commits_nothing_but_noise_is_refused_for_trained_weights(make):
    flow = trained(make.model(), commit="reuse_last", level=0.625)
    with pytest.raises(InputError, match=r"at the noise level 0\.625, and 1 is asked for"):
        FewStepSampler(schedule=(1.0,)).next_chunk(flow, make.text(), StreamState.start(flow, (3, 5)))
    with pytest.raises(InputError, match="needs clean_pass"):
        CausalForm(commit="reuse_last", level=1.0, schedule=(1.0,))

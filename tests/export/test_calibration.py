"""Ranges of activations: watched in every pass of the streams that a model makes as it was trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from s2search.errors import InputError
from s2search.exporters.calibration import Call, RangeStreams, calibrate, ranges_by_call
from s2search.exporters.prompt_tokens import PROMPTS, PromptTokens
from s2search.exporters.quantised import InputRange, matrices, quantised, record
from s2search.exporters.step import StepShape
from s2search.network.config import CausalForm
from s2search.network.flow import few_step_schedule
from s2search.network.network import S2DiT
from s2search.precision.documents import noise_db
from s2search.precision.part import PartPrecision, part_of
from s2search.preset import Preset
from s2search.text.hashing import Hashing
from tests.export.overfitted import GRID, overfitted
from tests.export.test_quantised import small

TWO = few_step_schedule(2)


def trained(form: CausalForm | None):
    model, _ = small()
    model.config = dataclasses.replace(model.config, causal=form)
    preset = model.config.preset
    return model, StepShape(grid=(2, 2), frames=preset.chunk_frames, window=preset.window)


def prompts_of(model, count=2):
    found = PromptTokens.hashed(model.config.preset)
    return PromptTokens(text_PSE=found.text_PSE[:count], encoder=found.encoder)


@pytest.mark.parametrize(
    ("form", "calls"),
    [
        (
            CausalForm(commit="reuse_last", level=TWO[-1], schedule=TWO),
            [(TWO[0], "read"), (TWO[1], "advance")],
        ),
        (
            CausalForm(commit="clean_pass", level=0.0, schedule=TWO),
            [(TWO[0], "read"), (TWO[1], "read"), (0.0, "commit")],
        ),
        (
            CausalForm(commit="reuse_last", level=0.625),
            [*((s, "read") for s in few_step_schedule(12)), (0.625, "commit")],
        ),
    ],
    ids=["few steps", "clean pass", "flow"],
)
def test_every_noise_level_is_watched_in_every_chunk_and_the_committing_pass_too(form, calls):
    model, shape = trained(form)
    calibration = RangeStreams(shape=shape, prompts=prompts_of(model))
    found = ranges_by_call(model, calibration)
    chunks = range(shape.slots // shape.frames + 2)
    assert set(found) == {Call(chunk, round(s, 6), what) for chunk in chunks for s, what in calls}
    for ranges in found.values():
        assert ranges  # of a committing pass fewer: nothing behind the last keys and values
        assert ranges.keys() <= matrices(model).keys()
    assert found[Call(0, 1.0, "read")].keys() == matrices(model).keys()


def test_one_that_was_not_trained_to_stream_is_watched_with_both_commit_policies():
    model, shape = trained(None)
    alone = ranges_by_call(model, RangeStreams(shape=shape, prompts=prompts_of(model, 1)))
    both = ranges_by_call(model, RangeStreams(shape=shape, prompts=prompts_of(model, 3)))
    assert {call.what for call in alone} == {"read", "advance"}
    assert {call.what for call in both} == {"read", "advance", "commit"}


def test_what_it_costs_is_said_before_and_while_it_is_paid():
    model, shape = trained(CausalForm(commit="clean_pass", level=0.0, schedule=TWO))
    calibration, told = RangeStreams(shape=shape, prompts=prompts_of(model, 3)), []
    calibrate(model, calibration, lambda done, total, label: told.append((done, total)))
    passes = 2 * 3 * 3  # two streams, the ring and two chunks more, two steps and a clean pass
    assert calibration.passes(model) == passes
    assert told == [(done, passes) for done in range(passes)]
    assert calibration.told(model).startswith("2 streams of 3 chunks, 18 passes, prompts by hashing[")


def test_a_range_is_that_of_all_passes_and_depends_on_the_seed_alone():
    model, shape = trained(CausalForm(commit="reuse_last", level=TWO[-1], schedule=TWO))
    calibration = RangeStreams(shape=shape, prompts=prompts_of(model, 3), seed=3)
    ranges = calibrate(model, calibration)
    calls = ranges_by_call(model, calibration)
    assert ranges.keys() == matrices(model).keys()
    for name, span in ranges.items():
        of_name = [found[name] for found in calls.values() if name in found]
        assert (span.low, span.high) == (min(x.low for x in of_name), max(x.high for x in of_name))
    assert calibrate(model, calibration) == ranges
    assert calibrate(model, dataclasses.replace(calibration, seed=4)) != ranges


def test_ranges_of_several_streams_cover_those_of_every_prompt_with_noise_of_its_own():
    model, shape = trained(CausalForm(commit="reuse_last", level=TWO[-1], schedule=TWO))
    prompts = prompts_of(model, 3)
    both = calibrate(model, RangeStreams(shape=shape, prompts=prompts, seed=3))
    one, other = (
        calibrate(
            model,
            RangeStreams(
                shape=shape,
                prompts=PromptTokens(text_PSE=prompts.text_PSE[n : n + 1], encoder="one"),
                seed=3 + n,
            ),
        )
        for n in range(2)
    )
    assert both == {name: span.over(other[name]) for name, span in one.items()}
    assert both not in (one, other)
    assert not any(linear._forward_pre_hooks for linear in matrices(model).values())  # nobody watches any more


def test_it_is_what_the_matrix_reads_in_that_very_stream():
    model, shape = trained(CausalForm(commit="reuse_last", level=TWO[-1], schedule=TWO))
    prompts = prompts_of(model, 1)
    seen, linear = [], model.get_submodule("layers.0.feed_forward.narrow")
    handle = linear.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].flatten()))
    record(model, shape, chunks=2, seed=3, prompts=prompts)
    handle.remove()
    span = calibrate(model, RangeStreams(shape=shape, prompts=prompts, chunks=2, seed=3))[
        "layers.0.feed_forward.narrow"
    ]
    x = torch.cat(seen)
    assert (span.low, span.high) == (min(x.min().item(), 0), max(x.max().item(), 0))


def test_the_last_prompt_is_kept_for_checks_and_ranges_come_from_the_others():
    preset = Preset.named("s2dit-tiny")
    prompts = PromptTokens.hashed(preset)
    encoder = Hashing(channels=preset.text_channels, tokens=preset.text_tokens).load(torch.device("cpu"), torch.float32)
    assert torch.equal(prompts.held_out, encoder.encode([PROMPTS[-1]]))
    assert torch.equal(prompts.for_ranges, encoder.encode(PROMPTS[:-1]))
    alone = PromptTokens(text_PSE=prompts.text_PSE[:1], encoder="one")
    assert torch.equal(alone.held_out, alone.for_ranges)


def test_prompts_stand_beside_the_weights_and_those_of_another_model_are_refused(tmp_path):
    preset = Preset.named("s2dit-tiny")
    assert PromptTokens.beside(tmp_path) is None
    prompts = PromptTokens.hashed(preset)
    prompts.save(tmp_path)
    again = PromptTokens.beside(tmp_path)
    assert again is not None
    assert (torch.equal(again.text_PSE, prompts.text_PSE), again.encoder) == (True, prompts.encoder)
    with pytest.raises(InputError, match=r"makes 16 tokens of 64 channels, and the model reads 77 of 768"):
        prompts.check(Preset.named("s2dit-1.8b"))
    (tmp_path / "prompts.safetensors").write_bytes(b"none")
    with pytest.raises(InputError, match="holds no prompts"):
        PromptTokens.beside(tmp_path)


@pytest.mark.parametrize("broken", [torch.zeros(0, 2, 3), torch.zeros(2, 3), torch.full((1, 2, 3), torch.nan)], ids=str)
def test_tokens_that_are_none_are_refused(broken):
    with pytest.raises(InputError, match="the tokens of prompts"):
        PromptTokens(text_PSE=broken, encoder="broken")


def clipped(model: S2DiT, ranges: dict[str, InputRange], stream: Callable[[], object]) -> float:
    """Return the mean share, over all matrices, of what they read outside of their ranges."""
    counts: dict[str, list[float]] = {}

    def note(name: str, x: torch.Tensor) -> None:
        outside = (x < ranges[name].low) | (x > ranges[name].high)
        counts.setdefault(name, []).append(outside.double().mean().item())

    hooks = [
        linear.register_forward_pre_hook(lambda module, inputs, name=name: note(name, inputs[0]))
        for name, linear in matrices(model).items()
    ]
    stream()
    for hook in hooks:
        hook.remove()
    return sum(sum(shares) / len(shares) for shares in counts.values()) / len(counts)


def of_random_latents(model: S2DiT, shape: StepShape) -> dict[str, InputRange]:
    """Return ranges of passes that no stream makes: random latents, text and noise levels, and a state of such."""
    found: dict[str, InputRange] = {}

    def note(name: str, x: torch.Tensor) -> None:
        found[name] = found.get(name, InputRange(low=0.0, high=0.0)).joined(x)

    hooks = [
        linear.register_forward_pre_hook(lambda module, inputs, name=name: note(name, inputs[0]))
        for name, linear in matrices(model).items()
    ]
    preset, generator = model.config.preset, torch.Generator().manual_seed(0)
    state = model.initial_state(1, shape.grid, window=shape.window)
    size = (1, model.config.latent_channels, shape.frames, 2 * shape.grid[0], 2 * shape.grid[1])
    with torch.no_grad():
        for _ in range(32):
            text = torch.randn(1, preset.text_tokens, preset.text_channels, generator=generator)
            asked = (torch.randn(size, generator=generator), torch.rand(1, 1, generator=generator), text)
            _, state = model.advance(*asked, state)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.slow
def test_ranges_of_a_trained_model_hold_for_other_prompts_and_seeds_where_those_of_random_latents_do_not():
    preset = Preset.named("s2dit-tiny")
    encoder = Hashing(channels=preset.text_channels, tokens=preset.text_tokens)
    own = PromptTokens.of(encoder, ("a man talks in a moving car",))
    model, losses = overfitted(text_BSE=own.text_PSE)
    assert sum(losses[-100:]) < 0.7 * sum(losses[:100])
    shape = StepShape(grid=GRID, frames=3, window=preset.window)
    streamed = calibrate(model, RangeStreams(shape=shape, prompts=PromptTokens.hashed(preset)))
    random = of_random_latents(model, shape)
    recording = record(model, shape, chunks=6, seed=5, prompts=own)
    shares = [clipped(model, ranges, lambda: recording.noise(model)) for ranges in (streamed, random)]
    assert shares[0] < 1e-3
    assert shares[1] > 2 * shares[0]
    parts = {part: PartPrecision.parse("w8a8") for part in map(part_of, matrices(model)) if part.startswith("layers")}
    noise = []
    for ranges in (streamed, random):
        with quantised(model, parts, "uniform", ranges, {}):
            noise.append(noise_db(recording.noise(model)))
    assert noise[0] > 34, noise
    assert noise[0] > noise[1] + 1.5, noise

import dataclasses

import pytest
import torch

from s2search.errors import InputError
from s2search.network.flow import clean, few_step_schedule
from s2search.streaming.sampler import FewStepSampler
from s2search.streaming.state import StreamState
from tests.stream.test_invariants import chunks_of, leaves


class Recorder:
    """A model that notes at which noise level it is asked for what."""

    def __init__(self, model):
        self.model, self.config, self.calls = model, model.config, []

    def parameters(self):
        return self.model.parameters()

    def __call__(self, x, s, text, state):
        self.calls.append(("read", round(s.item(), 4)))
        return self.model(x, s, text, state)

    def advance(self, x, s, text, state):
        self.calls.append(("advance", round(s.item(), 4)))
        return self.model.advance(x, s, text, state)

    def commit(self, x, s, text, state):
        self.calls.append(("commit", round(s.item(), 4)))
        return self.model.commit(x, s, text, state)


@pytest.mark.parametrize(
    ("commit", "last"),
    [
        ("reuse_last", [("advance", 0.625)]),
        ("clean_pass", [("read", 0.625), ("commit", 0.0)]),
    ],
)
def test_a_chunk_takes_the_published_steps_and_commits_by_its_policy(make, commit, last):
    model = Recorder(make.model())
    sampler = FewStepSampler(commit=commit)
    sampler.next_chunk(model, make.text(), StreamState.start(model.model, (3, 5)))
    assert model.calls == [("read", 1.0), ("read", 0.9375), ("read", 0.8333), *last]
    assert len(model.calls) == sampler.passes


def test_clean_pass_remembers_the_clean_chunk(make):
    model, text, state = make.model(), make.text(), StreamState.start(make.model(), (3, 5))
    latents, after = FewStepSampler(commit="clean_pass").next_chunk(model, text, state)
    with torch.no_grad():
        expected = model.commit(latents, torch.zeros(1, 1), text, state.layers)
    assert all(torch.equal(a, b) for a, b in zip(leaves(after.layers), leaves(expected), strict=True))


def test_a_model_that_knows_the_answer_is_followed_to_it(make):
    """With v = (x - z) / s, every step points to z, so the last one lands on it."""
    target = make.latents(2)

    class Knowing(Recorder):
        def advance(self, x, s, text, state):
            return (x - target) / s.view(-1, 1, 1, 1, 1), state

        def __call__(self, x, s, text, state):
            return self.advance(x, s, text, state)[0]

    model = make.model()
    latents, _ = FewStepSampler().next_chunk(Knowing(model), make.text(), StreamState.start(model, (3, 5)))
    torch.testing.assert_close(latents, target, rtol=0, atol=1e-12)


def test_every_step_sees_fresh_noise_at_its_own_level_and_every_chunk_another_one(make):
    """With v = x / s every step points to z = 0, so what the next one sees is its level times its noise."""
    model, seen = make.model(), []

    class Blank(Recorder):
        def advance(self, x, s, text, state):
            seen.append(x / s.item())
            return x / s.item(), state

        def __call__(self, x, s, text, state):
            return self.advance(x, s, text, state)[0]

    state = StreamState.start(model, (9, 16))
    for _ in range(2):
        _, state = FewStepSampler().next_chunk(Blank(model), make.text(), state)
    for noise in seen:
        assert noise.std().item() == pytest.approx(1, abs=0.03)
    correlation = torch.corrcoef(torch.stack([noise.flatten() for noise in seen]))
    assert (correlation - torch.eye(len(seen))).abs().max() < 0.05


def test_a_stream_depends_on_its_seed_alone(make):
    model, text, sampler = make.model(), make.text(), FewStepSampler()
    one, again, other = (
        chunks_of(sampler, model, text, StreamState.start(model, (3, 5), seed=seed), 3)[0] for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    first, second, _ = one.split(2, dim=2)
    assert not torch.equal(first, second)


def test_a_stream_in_a_batch_is_the_one_that_runs_with_fewer_beside_it(make):
    model, text, sampler = make.model(), make.text(), FewStepSampler()

    def latents(batch):
        state = StreamState.start(model, (3, 5), seed=3, batch=batch)
        return chunks_of(sampler, model, text.expand(batch, -1, -1), state, 2)[0]

    alone, two, three = latents(1), latents(2), latents(3)
    torch.testing.assert_close(three[:2], two, rtol=0, atol=1e-12)
    torch.testing.assert_close(three[:1], alone, rtol=0, atol=1e-12)
    assert (three[0] - three[1]).abs().min() > 0


@pytest.mark.parametrize("commit", ["reuse_last", "clean_pass"])
def test_the_steps_of_a_chunk_are_what_the_network_was_asked_and_answered(make, commit):
    model, text, sampler = make.model(), make.text(), FewStepSampler(commit=commit)
    state = StreamState.start(model, (3, 5), seed=1)
    steps = list(sampler.steps(model, text, state))
    assert [(step.number, step.s) for step in steps] == list(enumerate(sampler.schedule))
    for step in steps:
        v = model(step.x_BCTYX, torch.tensor([[step.s]], dtype=torch.float64), text, state.layers)
        assert v.requires_grad
        torch.testing.assert_close(clean(step.x_BCTYX, step.s, v.detach()), step.z_BCTYX, rtol=0, atol=1e-12)
    latents, after = sampler.next_chunk(model, text, state)
    assert torch.equal(latents, steps[-1].z_BCTYX)
    assert not latents.requires_grad
    assert [step.commit is None for step in steps] == [True] * 3 + [commit == "clean_pass"]
    if commit == "reuse_last":
        assert all(torch.equal(a, b) for a, b in zip(leaves(after.layers), leaves(steps[-1].commit), strict=True))


def test_chunks_do_not_touch_torchs_own_generator(make):
    before = torch.get_rng_state()
    model = make.model()
    torch.set_rng_state(before)
    chunks_of(FewStepSampler(), model, make.text(), StreamState.start(model, (3, 5)), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_prompt_in_the_middle_changes_what_follows_only(make):
    model, sampler, state = make.model(), FewStepSampler(), StreamState.start(make.model(), (3, 5))
    _, state = sampler.next_chunk(model, make.text(), state)
    same, _ = sampler.next_chunk(model, make.text(), state)
    changed, _ = sampler.next_chunk(model, make.text(seed=9), state)
    again, _ = sampler.next_chunk(model, make.text(), state)
    assert not torch.equal(same, changed)
    assert torch.equal(same, again)


def test_streams_side_by_side_equal_streams_alone(make):
    model, text = make.model(), make.text(batch=2)
    x = make.latents(2, batch=2)
    s = torch.full((2, 1), 0.5)
    both = StreamState.start(model, (3, 5), batch=2)
    with torch.no_grad():
        together = model(x, s, text, model.commit(x, s, text, both.layers))
        for n in range(2):
            one = StreamState.start(model, (3, 5))
            own = (x[n : n + 1], s[:1], text[n : n + 1])
            alone = model(*own, model.commit(*own, one.layers))
            torch.testing.assert_close(together[n : n + 1], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", [(), (0.5, 0.5), (0.5, 0.7), (1.2,), (0.5, 0.0)], ids=str)
def test_a_schedule_that_does_not_fall_is_refused(schedule):
    with pytest.raises(InputError, match="the schedule is"):
        FewStepSampler(schedule=schedule)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_in_half_precision_sums_stay_float32_and_rings_do_not(make, dtype):
    model = make.model("LSL", dtype=dtype)
    state = StreamState.start(model, (3, 5))
    _, state = FewStepSampler().next_chunk(model, make.text(dtype=dtype), state)
    kinds = {
        field.name: getattr(layer, field.name).dtype
        for layer in state.layers
        for field in dataclasses.fields(layer)
        if isinstance(getattr(layer, field.name), torch.Tensor)
    }
    assert kinds == {
        "sum_BCAKK": torch.float32,
        "norm_BCAK": torch.float32,
        "tail_BTHWD": dtype,
        "keys_BTHWAK": dtype,
        "values_BTHWAK": dtype,
    }


def test_a_state_with_short_sums_is_refused(make):
    layer = StreamState.start(make.model("L"), (3, 5)).layers[0]
    with pytest.raises(InputError, match=r"sums of torch\.bfloat16; float32 or wider"):
        dataclasses.replace(layer, sum_BCAKK=layer.sum_BCAKK.bfloat16())


def test_a_state_of_another_model_is_refused(make, tmp_path):
    StreamState.start(make.model("LS"), (3, 5)).save(tmp_path / "state.safetensors")
    with pytest.raises(InputError, match="belongs to the model"):
        StreamState.load(tmp_path / "state.safetensors", make.model("SL"))


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04pickle", b"\x08\0\0\0\0\0\0\0{}      "], ids=["empty", "pickle", "no header"]
)
def test_a_harmed_state_gives_one_line(make, tmp_path, content):
    path = tmp_path / "state.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a stream's state"):
        StreamState.load(path, make.model("L"))


def test_the_published_state_has_182_6_megabytes():
    """12 LCHA + 16 SSA at 512x288, W = 2, no sink, bf16 rings and tails; measured on storages of one layer of each."""
    from s2search.network.network import S2DiT
    from s2search.preset import Preset

    with torch.device("meta"):
        preset = dataclasses.replace(Preset.named("s2dit-1.8b"), depth=2)
        model = S2DiT.from_preset(preset, "LS").to(torch.bfloat16)
    text, zero = torch.zeros(1, 77, 768, device="meta", dtype=torch.bfloat16), torch.zeros(1, 1, device="meta")
    chunk = torch.zeros(1, 16, 3, 36, 64, device="meta", dtype=torch.bfloat16)
    layers, sizes = model.initial_state(1, (18, 32), "meta"), []
    with torch.no_grad():
        for _ in range(3):
            layers = model.commit(chunk, zero, text, layers)
            each = [sum(tensor.numel() * tensor.element_size() for tensor in leaves(layer)) for layer in layers]
            sizes.append(12 * each[0] + 16 * each[1])
    assert sizes[1] == sizes[2]
    assert sizes[-1] == pytest.approx(182.6e6, rel=1e-3)
    assert sizes[-1] <= 200e6


def test_a_schedule_of_other_lengths_streams_too(make):
    model, sampler = make.model(), FewStepSampler(schedule=few_step_schedule(2, 3.0))
    latents, _ = sampler.next_chunk(model, make.text(), StreamState.start(model, (3, 5)), frames=1)
    assert latents.shape[2] == 1

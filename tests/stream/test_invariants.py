"""The laws of streaming, against a masked full forward that shares no state code."""

import dataclasses

import pytest
import torch
from s2search_blocks.lcha import module as lcha_module
from s2search_blocks.softmax import module as softmax_attention_module

from s2search.block import Window
from s2search.network import network, walk
from s2search.streaming.sampler import FewStepSampler
from s2search.streaming.state import StreamState
from tests.stream.naive_network import teacher_forced

CHUNKS = 5
LAYOUTS = {
    "switches at both ends": "SLLSFL",
    "ends low": "LSSLKS",
    "post, window, decay": "lcha[rope_order=post],ssa,lcha[memory=window],ssa*2,lcha[memory=decay]",
}


def levels(frames_of_chunk):
    """One noise level per chunk, repeated over its frames."""
    return torch.tensor([0.2, 0.9, 0.5, 1.0, 0.7], dtype=torch.float64).repeat_interleave(frames_of_chunk)


def stream(model, noisy, committed, s_T, s_committed_T, text, chunk_frames, window):
    """Read every noisy chunk and commit its committed twin."""
    grid = (noisy.shape[3] // 2, noisy.shape[4] // 2)
    state = model.initial_state(noisy.shape[0], grid, window=window)
    outputs = []
    for t in range(0, noisy.shape[2], chunk_frames):
        now = slice(t, t + chunk_frames)
        outputs.append(model(noisy[:, :, now], s_T[None, now], text, state))
        state = model.commit(committed[:, :, now], s_committed_T[None, now], text, state)
    return torch.cat(outputs, dim=2)


@pytest.mark.parametrize("sink", [0, 1])
@pytest.mark.parametrize("window", [1, 2, 3, None])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@torch.no_grad()
def test_streaming_equals_the_teacher_forced_forward(make, layout, window, sink):
    depth = 6
    model, text = make.model(layout, depth=depth), make.text(batch=2)
    noisy, committed = (make.latents(2 * CHUNKS, batch=2, seed=seed) for seed in (1, 2))
    s_T, s_committed_T = levels(2), torch.zeros(2 * CHUNKS, dtype=torch.float64)
    frames = Window(frames=None if window is None else 2 * window, sink_frames=2 * sink)
    expected = teacher_forced(
        model, committed, s_committed_T, noisy, s_T, text, chunk_frames=2, window=window, sink=sink
    )
    streamed = stream(model, noisy, committed, s_T, s_committed_T, text, 2, frames)
    torch.testing.assert_close(streamed, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("head_skip", "velocity"), [(False, "plain"), (True, "plain"), (False, "residual")])
@torch.no_grad()
def test_so_it_does_without_the_skip_at_the_head_and_for_either_velocity(make, monkeypatch, head_skip, velocity):
    made = make.model

    def other(*layout, **options):
        model = made(*layout, **options)
        model.config = dataclasses.replace(model.config, head_skip=head_skip, velocity=velocity)
        return model

    monkeypatch.setattr(make, "model", other)
    test_streaming_equals_the_teacher_forced_forward(make, LAYOUTS["ends low"], 2, 1)


@torch.no_grad()
def test_streaming_equals_the_teacher_forced_forward_in_float32_too(make):
    exact, text = make.model("SLLSFL"), make.text()
    noisy, committed = (make.latents(2 * CHUNKS, seed=seed) for seed in (1, 2))
    s_T, zero_T = levels(2), torch.zeros(2 * CHUNKS, dtype=torch.float64)
    expected = teacher_forced(exact, committed, zero_T, noisy, s_T, text, chunk_frames=2, window=2, sink=1)
    model = make.model("SLLSFL", dtype=torch.float32)
    window = Window(frames=4, sink_frames=2)
    streamed = stream(model, noisy.float(), committed.float(), s_T, zero_T, text.float(), 2, window)
    assert (streamed.double() - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("sink", [0, 1])
@pytest.mark.parametrize("window", [1, 2, 3, None])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@torch.no_grad()
def test_frame_by_frame_too_with_any_window_and_under_either_commit(make, layout, window, sink):
    model, text = make.model(layout, depth=6, chunk_frames=1), make.text()
    noisy, committed = (make.latents(CHUNKS, seed=seed) for seed in (1, 2))
    frames, s_T = Window(frames=window, sink_frames=sink), levels(1)
    for level in (0.0, 0.625):
        s_committed_T = torch.full((CHUNKS,), level, dtype=torch.float64)
        expected = teacher_forced(
            model, committed, s_committed_T, noisy, s_T, text, chunk_frames=1, window=window, sink=sink
        )
        streamed = stream(model, noisy, committed, s_T, s_committed_T, text, 1, frames)
        torch.testing.assert_close(streamed, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk_frames", [1, 3])
@torch.no_grad()
def test_streaming_equals_it_for_any_chunk_length_and_for_what_reuse_last_commits(make, chunk_frames):
    """Under `reuse_last` the committed frames are noisy, and their time step is theirs."""
    model, text = make.model("SLLSFL", chunk_frames=chunk_frames), make.text()
    noisy, committed = (make.latents(CHUNKS * chunk_frames, seed=seed) for seed in (1, 2))
    s_T, s_committed_T = levels(chunk_frames), torch.full((CHUNKS * chunk_frames,), 0.625, dtype=torch.float64)
    expected = teacher_forced(
        model, committed, s_committed_T, noisy, s_T, text, chunk_frames=chunk_frames, window=2, sink=0
    )
    window = Window(frames=2 * chunk_frames)
    streamed = stream(model, noisy, committed, s_T, s_committed_T, text, chunk_frames, window)
    torch.testing.assert_close(streamed, expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_reading_is_idempotent_and_changes_no_state(make):
    model, text, x = make.model(), make.text(), make.latents(2)
    s = torch.full((1, 1), 0.5)
    state = model.commit(x, s, text, model.initial_state(1, (3, 5)))
    before = [tensor.clone() for tensor in leaves(state)]
    first, second = model(x, s, text, state), model(x, s, text, state)
    assert torch.equal(first, second)
    velocity, new = model.advance(x, s, text, state)
    assert torch.equal(velocity, first)
    assert all(torch.equal(a, b) for a, b in zip(leaves(new), leaves(model.commit(x, s, text, state)), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, leaves(state), strict=True))


@pytest.mark.parametrize(
    ("sink", "chunks"), [(1, 100), *(pytest.param(sink, 1000, marks=pytest.mark.slow) for sink in (0, 1))]
)
@torch.no_grad()
def test_the_state_stays_the_same_size_over_1000_chunks(make, sink, chunks):
    model = make.model("lcha,ssa,lcha[memory=window]", depth=3, chunk_frames=1, channels=8, heads=2)
    text = make.text()
    window = Window(frames=2, sink_frames=sink)
    state = StreamState.start(model, (2, 3), window=window)
    zero = torch.zeros(1, 1)
    sizes = []
    for chunk in range(chunks):
        layers = model.commit(make.latents(1, (2, 3), seed=chunk % 7), zero, text, state.layers)
        state = state.after(layers, 1)
        sizes.append(state.transformer_bytes)
    assert len(set(sizes[2 + sink :])) == 1
    assert sizes[0] < sizes[-1]
    assert all(tensor.isfinite().all() for tensor in leaves(state.layers))


@torch.no_grad()
def test_later_chunks_change_earlier_outputs_by_exactly_nothing(make):
    model, text = make.model(), make.text()
    noisy, committed = (make.latents(2 * CHUNKS, seed=seed) for seed in (1, 2))
    changed = committed.clone()
    changed[:, :, 2 * 3 :] += 1
    s_T, zero_T = levels(2), torch.zeros(2 * CHUNKS, dtype=torch.float64)
    one, other = (stream(model, noisy, x, s_T, zero_T, text, 2, Window(frames=4)) for x in (committed, changed))
    assert torch.equal(one[:, :, : 2 * 4], other[:, :, : 2 * 4])
    assert not torch.equal(one[:, :, 2 * 4 :], other[:, :, 2 * 4 :])


@pytest.mark.parametrize("grid", [(9, 16), (3, 5), (4, 4), (1, 1)], ids=str)
@torch.no_grad()
def test_one_chunk_that_holds_the_clip_equals_the_bidirectional_forward(make, grid):
    model, text, x = make.model(), make.text(), make.latents(3, grid)
    s = torch.full((1, 1), 0.5)
    streamed = model(x, s, text, model.initial_state(1, grid))
    torch.testing.assert_close(streamed, model(x, s, text), rtol=0, atol=1e-13)
    assert streamed.shape == x.shape


@pytest.mark.parametrize("commit", ["reuse_last", "clean_pass"])
def test_a_stream_saved_and_loaded_in_the_middle_goes_on_bit_equal(make, commit, tmp_path):
    model, text, sampler = (
        make.model(dtype=torch.float32),
        make.text(dtype=torch.float32),
        FewStepSampler(commit=commit),
    )
    whole = chunks_of(sampler, model, text, StreamState.start(model, (3, 5), seed=7), 5)[0]
    first, state = chunks_of(sampler, model, text, StreamState.start(model, (3, 5), seed=7), 3)
    state.save(tmp_path / "state.safetensors")
    again, _ = chunks_of(sampler, model, text, StreamState.load(tmp_path / "state.safetensors", model), 2)
    forked, _ = chunks_of(sampler, model, text, state, 2)
    assert torch.equal(torch.cat((first, again), dim=2), whole)
    assert torch.equal(again, forked)


def mutate_rope(monkeypatch):
    """The queries' position is off by one frame."""
    rotate = softmax_attention_module.rotate
    monkeypatch.setattr(
        softmax_attention_module,
        "rotate",
        lambda x, grid, *, first_frame, stride: rotate(
            x, grid, first_frame=first_frame + 1 if first_frame else 0, stride=stride
        ),
    )


def mutate_tail(monkeypatch):
    """The convolution forgets the frames before the chunk."""
    tail = lcha_module.LocalMixing.tail
    monkeypatch.setattr(lcha_module.LocalMixing, "tail", lambda *a: torch.zeros_like(tail(*a)))


def mutate_commit(monkeypatch):
    """Every chunk is committed twice."""
    commit = network.S2DiT.commit
    monkeypatch.setattr(
        network.S2DiT, "commit", lambda self, x, s, t, state: commit(self, x, s, t, commit(self, x, s, t, state))
    )


def mutate_window(monkeypatch):
    """The ring never drops a frame."""
    remembered = softmax_attention_module.remembered
    monkeypatch.setattr(
        softmax_attention_module, "remembered", lambda past, new, *, latest, first: remembered(past, new, latest=None)
    )


def mutate_sink(monkeypatch):
    """The first frames are dropped with the window."""
    remembered = softmax_attention_module.remembered
    monkeypatch.setattr(
        softmax_attention_module, "remembered", lambda past, new, *, latest, first: remembered(past, new, latest=latest)
    )


def mutate_sums(monkeypatch):
    """Linear attention remembers only the latest chunk."""
    monkeypatch.setattr(lcha_module.LinConvHybridAttention, "_with_chunk", lambda self, past, chunk, *rest: chunk)


def mutate_skip(monkeypatch):
    """The long skip is not added where the low stream comes up."""
    monkeypatch.setattr(walk.Route, "_risen", walk.Route._raised)


def mutate_gain(monkeypatch):
    """What a formula knows of the velocity is that of the noise instead."""
    monkeypatch.setattr(walk, "unit_gaussian_gain", lambda s: s / (1 - 2 * s + 2 * s * s))


@pytest.mark.parametrize(
    "mutate",
    [mutate_rope, mutate_tail, mutate_commit, mutate_window, mutate_sink, mutate_sums, mutate_skip, mutate_gain],
    ids=lambda mutate: mutate.__doc__,
)
def test_a_broken_stream_does_not_pass_for_a_whole_one(make, mutate, monkeypatch):
    test_streaming_equals_the_teacher_forced_forward(make, LAYOUTS["switches at both ends"], 2, 1)
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        test_streaming_equals_the_teacher_forced_forward(make, LAYOUTS["switches at both ends"], 2, 1)


def chunks_of(sampler, model, text, state, count):
    """Return the latents of so many chunks side by side, and the last state."""
    chunks = []
    for _ in range(count):
        latents, state = sampler.next_chunk(model, text, state)
        chunks.append(latents)
    return torch.cat(chunks, dim=2), state


def leaves(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, tuple):
        return [leaf for item in tree for leaf in leaves(item)]
    if dataclasses.is_dataclass(tree):
        return [leaf for field in dataclasses.fields(tree) for leaf in leaves(getattr(tree, field.name))]
    return []

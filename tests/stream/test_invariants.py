"""The laws of streaming (numbers: the system's invariants), against a masked full forward that shares no state code."""

import pytest
import torch

from s2search.block import Window
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
def test_1_streaming_equals_the_teacher_forced_forward(make, layout, window, sink):
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


@torch.no_grad()
def test_1_in_float32_too(make):
    exact, text = make.model("SLLSFL"), make.text()
    noisy, committed = (make.latents(2 * CHUNKS, seed=seed) for seed in (1, 2))
    s_T, zero_T = levels(2), torch.zeros(2 * CHUNKS, dtype=torch.float64)
    expected = teacher_forced(exact, committed, zero_T, noisy, s_T, text, chunk_frames=2, window=2, sink=1)
    model = make.model("SLLSFL", dtype=torch.float32)
    window = Window(frames=4, sink_frames=2)
    streamed = stream(model, noisy.float(), committed.float(), s_T, zero_T, text.float(), 2, window)
    assert (streamed.double() - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("chunk_frames", [1, 3])
@torch.no_grad()
def test_1_with_any_chunk_length_and_what_reuse_last_commits(make, chunk_frames):
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

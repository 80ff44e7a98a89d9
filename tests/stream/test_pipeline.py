import numpy as np
import pytest
import torch

from s2search.codec.dct import DCT
from s2search.cost import Pipeline as BudgetPipeline
from s2search.errors import InputError
from s2search.streaming.full_steps import FullStepSampler
from s2search.streaming.pipeline import StreamPipeline
from s2search.streaming.sampler import FewStepSampler
from s2search.streaming.state import StreamState
from s2search.text.hashing import Hashing


@pytest.fixture
def pipeline(make):
    model = make.model(dtype=torch.float32, chunk_frames=3)
    return StreamPipeline(
        model=model,
        text=Hashing(channels=7, tokens=5).load(torch.device("cpu"), torch.float32),
        codec=DCT().load(),
        sampler=FewStepSampler(),
    )


def overlapped(pipeline):
    return StreamPipeline(**{**vars(pipeline), "overlap": True})


def start(pipeline):
    return StreamState.start(pipeline.model, (3, 5), seed=3)


def frames(chunks):
    return np.concatenate([chunk.frames_THWC for chunk in chunks])


def test_eight_chunks_are_93_frames(pipeline):
    chunks = list(pipeline.chunks(lambda chunk: "a cat", 8, start(pipeline)))
    assert [len(chunk.frames_THWC) for chunk in chunks] == [9, *[12] * 7]
    assert frames(chunks).shape == (93, 48, 80, 3)
    assert [chunk.number for chunk in chunks] == list(range(8))
    assert all(chunk.times.denoise_s > 0 and chunk.times.decode_s > 0 for chunk in chunks)


@pytest.mark.parametrize("commit", ["reuse_last", "clean_pass"])
@pytest.mark.parametrize("overlap", [False, True])
def test_the_first_frames_come_after_all_passes_that_the_budget_of_first_frames_counts(
    pipeline, monkeypatch, commit, overlap
):
    """`Pipeline.first_frames_us` counts the clean pass, since a stream commits before it decodes."""
    happened, sampler = [], FewStepSampler(commit=commit)
    for name in ("forward", "advance", "commit"):
        own = getattr(pipeline.model, name)
        monkeypatch.setattr(pipeline.model, name, lambda *a, own=own, **k: (happened.append("pass"), own(*a, **k))[1])
    decode = type(pipeline.codec).decode
    monkeypatch.setattr(type(pipeline.codec), "decode", lambda *a: (happened.append("decode"), decode(*a))[1])
    stream = StreamPipeline(**{**vars(pipeline), "sampler": sampler, "overlap": overlap})
    list(stream.chunks(lambda chunk: "a cat", 1, start(pipeline)))
    budget = BudgetPipeline(chunk_frames=12, steps=len(sampler.schedule), text_ms=0, decoder_ms=0)
    passes = budget.first_frames_us(1, commit)
    assert happened == ["pass"] * passes + ["decode"]


def test_overlapped_decoding_gives_identical_frames(pipeline):
    def prompts(chunk):
        return "a cat" if chunk < 2 else "a dog"

    one = list(pipeline.chunks(prompts, 4, start(pipeline)))
    other = list(overlapped(pipeline).chunks(prompts, 4, start(pipeline)))
    assert np.array_equal(frames(one), frames(other))
    assert [chunk.state.header.chunks for chunk in other] == [1, 2, 3, 4]


def test_the_streamed_frames_are_those_of_decoding_all_latents_at_once(pipeline):
    text = pipeline.text.encode(["a cat"])
    state, latents = start(pipeline), []
    for _ in range(3):
        z, state = pipeline.sampler.next_chunk(pipeline.model, text, state)
        latents.append(z)
    whole, _ = pipeline.codec.decode(torch.cat(latents, dim=2))
    expected = ((whole[0].permute(1, 2, 3, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
    assert np.array_equal(frames(pipeline.chunks(lambda chunk: "a cat", 3, start(pipeline))), expected)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_stream_goes_on_from_the_state_of_any_chunk(pipeline, overlap, tmp_path):
    pipeline = overlapped(pipeline) if overlap else pipeline
    whole = list(pipeline.chunks(lambda chunk: f"scene {chunk // 2}", 5, start(pipeline)))
    whole[1].state.save(tmp_path / "state.safetensors")
    state = StreamState.load(tmp_path / "state.safetensors", pipeline.model)
    rest = list(pipeline.chunks(lambda chunk: f"scene {chunk // 2}", 3, state))
    assert np.array_equal(frames(rest), frames(whole[2:]))
    assert [chunk.number for chunk in rest] == [2, 3, 4]


def test_a_prompt_is_encoded_once_while_it_stays(pipeline):
    asked = []

    class Counting:
        def encode(self, prompts):
            asked.append(prompts)
            return pipeline.text.encode(prompts)

    counted = StreamPipeline(**{**vars(pipeline), "text": Counting()})
    chunks = list(counted.chunks(lambda chunk: "a cat" if chunk < 2 else "a dog", 4, start(pipeline)))
    assert asked == [["a cat"], ["a dog"]]
    assert len(chunks) == 4


def test_a_text_encoder_of_another_width_is_refused(pipeline):
    text = Hashing(channels=9, tokens=5).load(torch.device("cpu"), torch.float32)
    wide = StreamPipeline(**{**vars(pipeline), "text": text})
    with pytest.raises(InputError, match="makes tokens of 9 channels, and the model reads 7"):
        next(wide.chunks(lambda chunk: "", 1, start(pipeline)))


def test_a_codec_of_other_latents_is_refused_before_the_first_step(pipeline):
    few = StreamPipeline(**{**vars(pipeline), "codec": DCT(channels=4).load()})
    with pytest.raises(InputError, match=r"4 channels, and the model makes 16; choose one of 16, such as dct$"):
        next(few.chunks(lambda chunk: "", 1, start(pipeline)))


def test_an_error_while_decoding_reaches_the_caller(pipeline):
    class Broken(type(pipeline.codec)):
        def _decode(self, latents, before):
            raise RuntimeError("no memory")

    broken = Broken(torch.device("cpu"), torch.float32)
    for one in (pipeline, overlapped(pipeline)):
        with pytest.raises(RuntimeError, match="no memory"):
            list(StreamPipeline(**{**vars(one), "codec": broken}).chunks(lambda chunk: "", 3, start(pipeline)))


@pytest.mark.parametrize("solver", ["unipc", "euler"])
def test_the_bidirectional_model_is_sampled_in_full_steps(pipeline, solver):
    sampler = FullStepSampler(steps=6, solver=solver, guidance=3.0)
    text, nothing = (pipeline.text.encode([prompt]) for prompt in ("a cat", ""))
    noise = torch.randn(1, 16, 4, 6, 10, generator=torch.Generator().manual_seed(0))
    one, again = (sampler.sample(pipeline.model, noise, text, unconditional_BSE=nothing) for _ in range(2))
    assert torch.equal(one, again)
    assert one.isfinite().all()
    assert one.shape == noise.shape

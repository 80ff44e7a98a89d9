"""A compiled model is the model: outputs, states, streams. A CUDA graph is played by a stand-in with its habits."""

import pytest
import torch

from s2search.block import Window
from s2search.errors import InputError
from s2search.streaming import replay
from s2search.streaming.compiled import Compiled
from s2search.streaming.replay import Recorded, leaves
from s2search.streaming.sampler import FewStepSampler
from s2search.streaming.state import StreamState
from tests.stream.test_invariants import LAYOUTS


def stand_in(call):
    """Record like a CUDA graph: nothing is computed until a replay, and every replay overwrites the same places."""
    places = call()
    for place in leaves(places):
        place.fill_(torch.nan)

    def play():
        for place, new in zip(leaves(places), leaves(call()), strict=True):
            place.copy_(new)

    return places, play


@pytest.fixture(params=["fused", "recorded"])
def fast(request):
    """Make a fast form that runs here at once."""
    return lambda model: Compiled(model, compile=False, capture=stand_in if request.param == "recorded" else None)


def levels(s):
    return torch.tensor([[s]], dtype=torch.float64)


def same(one, other, **tolerance):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        torch.testing.assert_close(a, b, **{"rtol": 0, "atol": 1e-12} | tolerance)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@torch.no_grad()
def test_every_pass_gives_what_the_model_gives(make, fast, layout):
    model, text = make.model(layout, depth=6), make.text(batch=2)
    quick = fast(model)
    state = model.initial_state(2, (3, 5), window=Window(frames=4, sink_frames=2))
    same(quick.initial_state(2, (3, 5), window=Window(frames=4, sink_frames=2)), state)
    for chunk in range(4):
        given = (make.latents(2, batch=2, seed=chunk), levels(0.3 + chunk / 10), text)
        expected, new = model(*given, state), model.commit(*given, state)
        same(quick(*given, state), expected)
        same(quick.commit(*given, state), new)
        same(quick.advance(*given, state), (expected, new))
        state = new
    same(quick(*given), model(*given))


@pytest.mark.parametrize("commit", ["reuse_last", "clean_pass"])
def test_a_sampler_streams_the_same_and_a_state_goes_from_one_to_the_other(make, fast, commit):
    model, text, sampler = make.model("SLLSFL"), make.text(), FewStepSampler(commit=commit)
    quick = fast(model)
    state = mixed = StreamState.start(model, (3, 5), seed=3)
    for chunk in range(5):
        z, state = sampler.next_chunk(model, text, state)
        mixed_z, mixed = sampler.next_chunk(quick if chunk % 2 else model, text, mixed)
        same((mixed_z, mixed.layers), (z, state.layers), atol=1e-11)


def test_older_states_and_results_stay_what_they_are(make, fast):
    model, text, sampler = make.model("SLLSFL"), make.text(), FewStepSampler()
    quick, kept = fast(model), []
    state = StreamState.start(quick, (3, 5), seed=3)
    for _ in range(5):
        before = state
        z, state = sampler.next_chunk(quick, text, before)
        kept.append((before, z, state, [t.clone() for t in leaves((before.layers, z, state.layers))]))
    for before, z, after, copies in kept:
        same((before.layers, z, after.layers), tuple(copies), atol=0)
        again, fork = sampler.next_chunk(quick, text, before)
        same((again, fork.layers), (z, after.layers), atol=0)
        same((before.layers, z, after.layers), tuple(copies), atol=0)
    addresses = [t.data_ptr() for before, *_ in kept for t in leaves(before.layers) if t.numel()]
    assert len(set(addresses)) == len(addresses)


def test_a_changed_prompt_is_heard_even_where_it_changed_in_place(make, fast):
    model, text, other = make.model("SL"), make.text(), make.text(seed=9)
    quick, latents = fast(model), make.latents(2)
    state = model.initial_state(1, (3, 5))
    with torch.no_grad():
        same(quick(latents, levels(0.5), text, state), model(latents, levels(0.5), text, state))
        same(quick(latents, levels(0.5), other, state), model(latents, levels(0.5), other, state))
        other.copy_(text)
        same(quick(latents, levels(0.5), other, state), model(latents, levels(0.5), text, state))
    with torch.inference_mode():  # where changes are not counted
        uncounted = make.text(seed=7)
        quick(latents, levels(0.5), uncounted, state)
        uncounted.copy_(text)
        same(quick(latents, levels(0.5), uncounted, state), model(latents, levels(0.5), text, state))


def test_warming_up_records_all_that_a_stream_will_need(make, monkeypatch):
    made = []

    def counting(call):
        made.append(call)
        return stand_in(call)

    model, text = make.model("SLLSFL", window_chunks=2), make.text()
    quick = Compiled(model, compile=False, capture=counting)
    state = StreamState.start(quick, (3, 5))
    quick.warm_up(make.latents(2), levels(0.5), text, state.layers)
    recorded = len(made)
    assert recorded == 9  # rings of no chunk, one and two; read, advance and commit
    for commit in ("reuse_last", "clean_pass"):
        after = state
        for _ in range(4):
            _, after = FewStepSampler(commit=commit).next_chunk(quick, text, after)
    assert len(made) == recorded


def test_states_of_the_same_shapes_but_other_windows_are_told_apart(make, fast):
    model, text = make.model("SL"), make.text()
    quick, given = fast(model), (make.latents(2), levels(0.5), text)
    for frames in (2, 4):
        state = model.initial_state(1, (3, 5), window=Window(frames=frames))
        for _ in range(3):
            with torch.no_grad():
                expected, state = model.commit(*given, state), quick.commit(*given, state)
            same(state, expected)
            assert state[0].window == expected[0].window


def test_a_recorded_call_copies_only_what_changed(monkeypatch):
    copied = []
    copy = replay._copy
    monkeypatch.setattr(replay, "_copy", lambda to, source: (copied.append(len(to)), copy(to, source)))
    state, text = (torch.ones(2), torch.ones(3)), torch.ones(1)
    double = Recorded(lambda x: x[0][0].sum() + x[1].sum(), (state, text), stand_in)
    assert double((state, text)) == 3
    assert double((state, torch.tensor([5.0]))) == 7
    state[0].add_(1)
    assert double((state, torch.tensor([5.0]))) == 9
    assert copied[::2] == [0, 1, 2]  # results are copied in between


def test_a_window_without_end_is_refused_in_one_line(make):
    quick = Compiled(make.model("SL"), compile=False, capture=stand_in)
    with pytest.raises(InputError, match="cannot have an unlimited window; set a window, or do not compile"):
        quick.initial_state(1, (3, 5), window=Window(frames=None))


def test_a_machine_without_a_compiler_is_told_in_one_line(make):
    torch._inductor.cpp_builder.cpp_compiler_search.cache_clear()
    missing = torch._inductor.config.patch({"cpp.cxx": ("/none/such",)})
    with missing, pytest.raises(InputError, match="finds no C\\+\\+ compiler; install g\\+\\+") as caught:
        Compiled(make.model("SL"))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_inductor_compiles_what_a_chunk_needs_and_streams_the_same(make):
    """Four programs: half a minute on an idle core where none is cached yet."""
    model, text = make.model("SL", window_chunks=1, dtype=torch.float32), make.text(dtype=torch.float32)
    quick, sampler = Compiled(model), FewStepSampler(commit="clean_pass")
    _, state = sampler.next_chunk(model, text, StreamState.start(model, (3, 5), seed=3))  # its window is full
    compiled = state
    for _ in range(2):
        z, state = sampler.next_chunk(model, text, state)
        compiled_z, compiled = sampler.next_chunk(quick, text, compiled)
        torch.testing.assert_close(compiled_z, z, rtol=0, atol=1e-5 * z.abs().max().item())
    same(compiled.layers, state.layers, atol=1e-4)
    assert compiled.transformer_bytes == state.transformer_bytes
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs >= 4
    sampler.next_chunk(quick, text, compiled)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs

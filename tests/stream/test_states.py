"""What a state is of: it goes on as that stream, and as no other."""

import dataclasses

import msgspec
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from s2search.api.stream import read_prompts
from s2search.block import Window
from s2search.errors import InputError
from s2search.network.flow import few_step_schedule
from s2search.network.network import S2DiT
from s2search.network.weight_file import weights_digest
from s2search.preset import Preset
from s2search.streaming import state as state_module
from s2search.streaming.compiled import Compiled
from s2search.streaming.header import Header
from s2search.streaming.sampler import FewStepSampler
from s2search.streaming.state import StreamState
from tests.stream.test_invariants import leaves

SEED, OPTIONAL = 5, ("weights", "dtype", "schedule", "commit", "codec", "text", "frames", "digest")


def fresh(seed=SEED, dtype=torch.float32):
    """Return the random model that a command with this seed streams."""
    preset = Preset(name="t", depth=2, channels=16, heads=2, feed_forward=16, text_channels=7, text_tokens=5)
    torch.manual_seed(seed)
    return S2DiT.from_preset(preset, "SL").eval().to(dtype)


@pytest.fixture
def saved(make, tmp_path):
    """A model, and the file of its state after one chunk."""
    model, path = fresh(), tmp_path / "state.safetensors"
    state = StreamState.start(model, (2, 3), seed=SEED, codec="wan[folder=here]", text="hashing")
    FewStepSampler().next_chunk(model, make.text(dtype=torch.float32), state)[1].save(path)
    return model, path


def older(path, **changes):
    """Make a state's file what older releases wrote, with other values where they are given."""
    with safe_open(path, framework="pt") as file:
        header = msgspec.json.decode(file.metadata()["header"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = {key: value for key, value in header.items() if key not in OPTIONAL} | changes
    save_file(tensors, path, metadata={"header": msgspec.json.encode(header).decode()})
    return path


def test_a_state_names_all_that_its_stream_fixes(saved):
    model, path = saved
    header = Header.read(path)
    assert header.weights == model.weights_digest() == StreamState.load(path, model).header.weights
    assert (header.grid, header.dtype, header.schedule) == ((2, 3), "float32", few_step_schedule())
    assert (header.commit, header.codec, header.text) == ("reuse_last", "wan[folder=here]", "hashing")
    assert header.window == model.config.preset.window


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"grid": (3, 2)}, "the state is of 48x32 video, not of 32x48; go on with --video 48x32, or start another"),
        ({"dtype": "float16"}, "the state is float32, not float16; go on with --dtype float32"),
        (
            {"schedule": few_step_schedule(2)},
            r"is of 4 steps \(1, 0.9375, 0.8333, 0.625\), not of 2 steps \(1, 0.8333\)",
        ),
        ({"schedule": few_step_schedule(4, 3.0)}, r"is of 4 steps .*, not of 4 steps \(1, 0.9, 0.75, 0.5\)"),
        ({"commit": "clean_pass"}, "committed by reuse_last, not by clean_pass; go on with --commit reuse_last"),
        ({"codec": "dct"}, r"is of the codec plugin wan\[folder=here\], not of dct"),
        ({"text": "clip[folder=a]"}, r"is of the text plugin hashing, not of clip\[folder=a\]"),
        ({"text": "hashing[tokens=9]"}, r"is of the text plugin hashing, not of hashing\[tokens=9\]"),
    ],
)
def test_what_differs_is_refused_in_one_line(saved, asked, line):
    header = Header.read(saved[1])
    header.check(**{key: getattr(header, key) for key in asked})
    with pytest.raises(InputError, match=line) as raised:
        header.check(**asked)
    assert len(str(raised.value).splitlines()) == 1


def test_a_plugins_files_may_lie_elsewhere(saved):
    Header.read(saved[1]).check(codec="wan[folder=there]")


def test_other_weights_of_the_same_sizes_are_refused_both_ways(saved, tmp_path):
    model, path = saved
    with pytest.raises(InputError, match=r"was made with the weights sha256:.*, not with .*random: --seed 5\)"):
        StreamState.load(path, fresh(seed=6))
    StreamState.start(fresh(seed=6), (2, 3)).save(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="was made with the weights"):
        StreamState.load(tmp_path / "other.safetensors", model)


def test_one_changed_weight_is_other_weights(saved):
    model, path = saved
    with torch.no_grad():
        next(reversed(list(model.parameters()))).view(-1)[-1] += 1e-7
    with pytest.raises(InputError, match="was made with the weights"):
        StreamState.load(path, model)


def test_a_digest_knows_names_shapes_formats_and_numbers():
    x = torch.arange(4.0)
    kinds = [
        ("a", x),
        ("b", x),
        ("a", x.view(2, 2)),
        ("a", x.to(torch.float64)),
        ("a", x + 1),
        ("a", x.view(torch.int32)),
    ]
    assert len({weights_digest([kind]) for kind in kinds}) == len(kinds)
    assert weights_digest([("a", x.view(2, 2).T)]) != weights_digest([("a", x.view(2, 2))])


@pytest.mark.parametrize("one", [torch.float32, torch.bfloat16])
def test_another_number_format_is_refused_both_ways_and_the_same_goes_on(make, tmp_path, one):
    other = torch.bfloat16 if one == torch.float32 else torch.float32
    model, text, path = fresh(dtype=one), make.text(dtype=one), tmp_path / "state.safetensors"
    _, state = FewStepSampler().next_chunk(model, text, StreamState.start(model, (2, 3), seed=SEED))
    state.save(path)
    for file in (path, older(path)):
        loaded = StreamState.load(file, fresh(dtype=one))
        assert all(torch.equal(a, b) for a, b in zip(leaves(loaded.layers), leaves(state.layers), strict=True))
        with pytest.raises(InputError, match=rf"is {one}, not {other}".replace("torch.", "")):
            StreamState.load(file, fresh(dtype=other))


def test_a_state_in_memory_that_is_wider_than_the_model_is_one_line(make):
    state = StreamState.start(fresh(), (2, 3))
    with pytest.raises(InputError, match="the state is float32, not bfloat16"):
        FewStepSampler().next_chunk(fresh(dtype=torch.bfloat16), make.text(dtype=torch.bfloat16), state)


@pytest.mark.parametrize(
    "sampler", [FewStepSampler(schedule=few_step_schedule(3)), FewStepSampler(commit="clean_pass")]
)
def test_a_sampler_goes_on_with_no_other_samplers_stream(make, saved, sampler):
    model, path = saved
    text = make.text(dtype=torch.float32)
    with pytest.raises(InputError, match="go on with"):
        sampler.next_chunk(model, text, StreamState.load(path, model))
    FewStepSampler().next_chunk(model, text, StreamState.load(path, model))


def test_a_state_that_has_committed_nothing_takes_any_sampler(make):
    model, text = fresh(), make.text(dtype=torch.float32)
    sampler = FewStepSampler(schedule=(1.0, 0.5), commit="clean_pass")
    _, state = sampler.next_chunk(model, text, StreamState.start(model, (2, 3)))
    assert (state.header.schedule, state.header.commit) == ((1.0, 0.5), "clean_pass")


def test_a_compiled_model_goes_on_with_the_models_states_and_with_no_others(saved):
    model, path = saved
    assert StreamState.load(path, Compiled(model, compile=False)).header.chunks == 1
    with pytest.raises(InputError, match="was made with the weights"):
        StreamState.load(path, Compiled(fresh(seed=6), compile=False))


def test_an_older_state_goes_on_with_the_random_weights_of_its_seed_and_with_no_others(saved):
    model, path = saved
    loaded = StreamState.load(older(path), model)
    assert (loaded.header.dtype, loaded.header.schedule, loaded.header.commit) == ("float32", None, None)
    with pytest.raises(InputError, match="does not name its weights, and these are not the random ones of its seed 5"):
        StreamState.load(path, fresh(seed=6))
    with pytest.raises(InputError, match="not the random ones of its seed 4"):
        StreamState.load(older(path, seed=4), model)


def test_an_older_state_tells_its_codec_by_its_cache(saved, tmp_path):
    from s2search.codec.dct import DCT

    model, _ = saved
    _, cache = DCT().load().decode(torch.zeros(1, 16, 3, 4, 6))
    state = dataclasses.replace(StreamState.start(model, (2, 3)), decoder=cache)
    state.save(tmp_path / "cached.safetensors")
    header = Header.read(older(tmp_path / "cached.safetensors"))
    assert header.codec == "dct"
    with pytest.raises(InputError, match=r"is of the codec plugin dct, not of wan"):
        header.check(codec="wan[folder=x]")


def test_a_tensor_in_another_format_is_named(saved):
    model, path = saved
    forged(path, lambda t: {KEYS: t[KEYS].half()})
    with pytest.raises(InputError, match=r"'layers.0.keys_BTHWAK' of the stream's state is float16, not float32"):
        StreamState.load(path, model)


def test_a_state_of_another_window_keeps_it(make, tmp_path):
    model, path = fresh(), tmp_path / "state.safetensors"
    StreamState.start(model, (2, 3), window=Window(frames=3)).save(path)
    assert StreamState.load(path, model).header.window == Window(frames=3)


@pytest.mark.parametrize(
    ("later", "line"),
    [
        (["4:a dog"], "--prompt-at names chunk 4; 0 to 3, the last chunk of this stream"),
        ({9: "a dog"}, "--prompt-at names chunk 9"),
        ({-1: "a dog"}, "--prompt-at names chunk -1"),
        (["2:a dog", "2:a bird"], "chunk 2 has two prompts: 'a dog' and 'a bird'; leave out one"),
        (["0:a dog"], "chunk 0 has two prompts: 'a cat' and 'a dog'"),
    ],
)
def test_a_prompt_that_nobody_would_see_is_refused(later, line):
    with pytest.raises(InputError) as raised:
        read_prompts("a cat", later, end=4)
    assert line in str(raised.value)


def test_a_prompt_may_begin_at_any_chunk_of_the_stream():
    prompts = read_prompts("", ["0:a cat", "3:a dog"], end=4)
    assert [prompts(chunk) for chunk in range(4)] == ["a cat"] * 3 + ["a dog"]


def forged(path, tensors=lambda tensors: {}, **changes):
    """Change a state's file, and its digest as one who hides it would."""
    with safe_open(path, framework="pt") as file:
        header = msgspec.json.decode(file.metadata()["header"], type=Header)
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kept = {name: tensor.contiguous() for name, tensor in (kept | tensors(kept)).items()}
    header = dataclasses.replace(header, digest=None, **changes)
    header = dataclasses.replace(header, digest=state_module._digest(header, kept))
    save_file(kept, path, metadata={"header": msgspec.json.encode(header).decode()})


KEYS, VALUES, SUM = "layers.0.keys_BTHWAK", "layers.0.values_BTHWAK", "layers.1.sum_BCAKK"


@pytest.mark.parametrize(
    ("tensors", "changes", "line"),
    [
        (lambda t: {KEYS: t[KEYS][:, 1:], VALUES: t[VALUES][:, 1:]}, {}, r"a layer of .* remembers 2 frames, not 3"),
        (lambda t: {SUM: t[SUM] / 0}, {}, r"'layers.1.sum_BCAKK' of .* has numbers that are not finite"),
        (lambda t: {KEYS: t[KEYS][..., :4]}, {}, r"'layers.0.keys_BTHWAK' of .* has shape .*, not"),
        (lambda t: {SUM: t[SUM][0]}, {}, r"'layers.1.sum_BCAKK' of .* has shape"),
        (lambda t: {}, {"window": Window(frames=2)}, r"a layer of .* remembers 3 frames, not 2"),
        (lambda t: {}, {"grid": (3, 2)}, r"of .* has shape"),
        (lambda t: {}, {"batch": 2}, r"of .* has shape"),
        (lambda t: {}, {"grid": (-3, 2)}, r"has batch 1, grid \(-3, 2\), .*; sizes of at least 1"),
        (lambda t: {}, {"grid": (2**40, 2**40)}, r"has batch 1, .* tokens a frame"),
        (lambda t: {}, {"frames": 0}, r"1 chunks of 0 frames in all; .* a frame a chunk or more"),
        (lambda t: {}, {"frames": 7}, r"a layer of .* remembers 3 frames, not"),
        (lambda t: {}, {"chunks": 10**9}, r"has batch 1, .*; sizes of at least 1"),
    ],
)
def test_a_state_that_was_changed_and_hides_it_is_refused(saved, tensors, changes, line):
    model, path = saved
    forged(path)
    StreamState.load(path, model)
    forged(path, tensors, **changes)
    with pytest.raises(InputError, match=line):
        StreamState.load(path, model)


@pytest.mark.parametrize("changes", [{"window": {"frames": 9, "sink_frames": 0}}, {"seed": 8}, {"digest": None}])
def test_a_state_that_was_changed_is_refused(saved, changes):
    model, path = saved
    with safe_open(path, framework="pt") as file:
        header = msgspec.json.decode(file.metadata()["header"]) | changes
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata={"header": msgspec.json.encode(header).decode()})
    with pytest.raises(InputError, match=r"was changed since it was saved; take a copy as it was saved"):
        StreamState.load(path, model)


def test_sums_of_a_windows_chunks_want_chunks_of_one_length_also_after_a_state_was_loaded(make, tmp_path):
    path, text, zero = tmp_path / "state.safetensors", make.text(), torch.zeros(1, 1, dtype=torch.float64)
    model = make.model("lcha[memory=window],ssa", depth=2)
    state = StreamState.start(model, (2, 3), window=Window(frames=4, sink_frames=2))
    for seed in range(5):
        state = state.after(model.commit(make.latents(2, (2, 3), seed=seed), zero, text, state.layers), 2)
    state.save(path)
    loaded = StreamState.load(path, model)
    assert [layer.chunk_frames for layer in loaded.layers if hasattr(layer, "chunk_frames")] == [2]
    for layers in (state.layers, loaded.layers):
        with pytest.raises(InputError, match=r"a chunk of 3 frames follows chunks of 2; chunks of one length"):
            model.commit(make.latents(3, (2, 3)), zero, text, layers)
        model.commit(make.latents(2, (2, 3)), zero, text, layers)
    free = StreamState.start(model, (2, 3), window=Window(frames=None)).layers  # all sums are kept, of any length
    for frames in (2, 3):
        free = model.commit(make.latents(frames, (2, 3)), zero, text, free)

"""Wan's autoencoder, tiny and random, saved and loaded in the real format; diffusers' own calls are the reference."""

import json
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search import registry
from s2search.codec.base import Cache
from s2search.codec.wan import Wan
from s2search.errors import InputError
from s2search.testing.codecs import check_codec

pytest.importorskip("diffusers", reason="the extra s2search[video] is not installed")

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = WEIGHTS + ".index.json"
OPTIONS = {"plain": {}, "residual": {"is_residual": True}, "time first": {"temperal_downsample": [True, True, False]}}


def diffusers_model(folder):
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan.from_pretrained(folder, low_cpu_mem_usage=False).eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    from diffusers import AutoencoderKLWan

    made = {}
    for name, options in OPTIONS.items():
        torch.manual_seed(0)
        made[name] = tmp_path_factory.mktemp("wan") / "vae"
        vae = AutoencoderKLWan(base_dim=4, num_res_blocks=1, **options)
        with torch.no_grad():
            for parameter in vae.parameters():  # norms start at one and biases near nothing
                parameter.add_(0.1 * torch.randn_like(parameter))
        vae.save_pretrained(made[name])
    return made


@pytest.fixture(scope="module")
def folder(folders):
    return folders["plain"]


@pytest.fixture(scope="module", params=OPTIONS)
def pair(request, folders):
    """Our worker, and diffusers' module."""
    return Wan(folder=str(folders[request.param])).load(), diffusers_model(folders[request.param])


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def line_of(folder):
    with pytest.raises(InputError) as caught:
        Wan(folder=str(folder)).load()
    (line,) = str(caught.value).splitlines()
    return line


def statistics(vae):
    return (torch.tensor(values)[:, None, None, None] for values in (vae.config.latents_mean, vae.config.latents_std))


def test_it_keeps_the_contract_of_codecs(folder):
    check_codec(registry.create("codecs", f"wan[folder={folder}]"))


@pytest.mark.parametrize("size", [(1, 1, 1), (4, 2, 3), (5, 3, 1)])
def test_it_decodes_as_diffusers_does(pair, size):
    worker, vae = pair
    mean, deviation = statistics(vae)
    latents_BCTYX = torch.randn(1, 16, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected_BCTYX = vae.decode(latents_BCTYX * deviation + mean).sample
    assert expected_BCTYX.abs().mean() > 0.01
    assert (expected_BCTYX.abs() < 1).float().mean() > 0.5, "the clamp would hide errors"
    assert (worker.decode(latents_BCTYX)[0] - expected_BCTYX).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(1, 8, 8), (13, 16, 24), (17, 24, 8)])
def test_it_encodes_as_diffusers_does(pair, size):
    worker, vae = pair
    mean, deviation = statistics(vae)
    video_BCTYX = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        expected_BCTYX = (vae.encode(video_BCTYX).latent_dist.mode() - mean) / deviation
    assert (worker.encode(video_BCTYX) - expected_BCTYX).abs().max() < 1e-5


@settings(max_examples=10)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_chunks_of_any_length_give_bit_for_bit_what_one_call_gives(pair, lengths, rows, columns, seed):
    worker, _ = pair
    generator = torch.Generator().manual_seed(seed)
    latents_BCTYX = torch.randn(1, 16, sum(lengths), rows, columns, generator=generator)
    whole_BCTYX, last = worker.decode(latents_BCTYX)
    encoded_BCTYX, _ = worker.encode_chunk(whole_BCTYX, None)
    pieces, codes, caches, position = [], [], [None, None], 0
    for chunk_BCTYX in latents_BCTYX.split(lengths, dim=2):
        piece_BCTYX, caches[0] = worker.decode(chunk_BCTYX, caches[0])
        frames = piece_BCTYX.shape[2]
        code_BCTYX, caches[1] = worker.encode_chunk(whole_BCTYX[:, :, position : position + frames], caches[1])
        pieces.append(piece_BCTYX)
        codes.append(code_BCTYX)
        position += frames
    assert torch.equal(torch.cat(pieces, dim=2), whole_BCTYX)
    assert torch.equal(torch.cat(codes, dim=2), encoded_BCTYX)
    assert caches[0].tensors.keys() == last.tensors.keys()
    assert all(torch.equal(caches[0].tensors[name], last.tensors[name]) for name in last.tensors)


def test_a_stream_forks_and_the_branches_do_not_touch(folder):
    worker = Wan(folder=str(folder)).load()
    start, left, right = torch.randn(3, 1, 16, 3, 2, 2, generator=torch.Generator().manual_seed(0)).unbind(0)
    _, cache = worker.decode(start)
    first_BCTYX, _ = worker.decode(left, cache)
    other_BCTYX, _ = worker.decode(right, cache)
    assert not torch.equal(first_BCTYX, other_BCTYX)
    assert torch.equal(worker.decode(left, cache)[0], first_BCTYX)
    fresh_BCTYX, _ = Wan(folder=str(folder)).load().decode(torch.cat([start, left], dim=2))
    assert torch.equal(fresh_BCTYX[:, :, 9:], first_BCTYX)


@pytest.mark.parametrize("passed", [1, 2, 3])
def test_a_cache_goes_through_a_safetensors_file_at_any_point(folder, tmp_path, passed):
    from safetensors.torch import load_file, save_file

    worker = Wan(folder=str(folder)).load()
    latents_BCTYX = torch.randn(1, 16, passed + 2, 3, 5, generator=torch.Generator().manual_seed(0))
    _, cache = worker.decode(latents_BCTYX[:, :, :passed])
    save_file(cache.named_tensors(), tmp_path / "cache.safetensors")
    again = Cache.from_named_tensors(load_file(tmp_path / "cache.safetensors"))
    assert again.cache_bytes == cache.cache_bytes
    expected_BCTYX, _ = worker.decode(latents_BCTYX[:, :, passed:], cache)
    assert torch.equal(worker.decode(latents_BCTYX[:, :, passed:], again)[0], expected_BCTYX)


def test_a_cache_that_lost_a_tensor_is_refused(folder):
    worker = Wan(folder=str(folder)).load()
    latents_BCTYX = torch.zeros(1, 16, 1, 1, 1)
    _, cache = worker.decode(latents_BCTYX)
    named = cache.named_tensors()
    del named["wan.decode.3"]
    count = len(cache.tensors)
    with pytest.raises(InputError, match=f"a cache of {count - 1} tensors does not fit this autoencoder; {count}, "):
        worker.decode(latents_BCTYX, Cache.from_named_tensors(named))


def test_the_cache_is_two_frames_before_every_causal_convolution(folder):
    """Counted from the shapes that hooks see; the temporal upsamplings keep theirs before they double the frames."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

    worker, counted = Wan(folder=str(folder)).load(), {}
    for name, module in worker.vae.decoder.named_modules():
        if isinstance(module, WanCausalConv3d) and module.kernel_size[0] == 3:
            module.register_forward_pre_hook(
                lambda _, inputs, name=name: counted.update({name: 2 * 4 * inputs[0][:, :, :1].numel()})
            )
    _, cache = worker.decode(torch.zeros(1, 16, 3, 3, 5))
    assert cache.cache_bytes == sum(counted.values())


def test_half_precision_keeps_its_format_and_stays_near(folder):
    latents_BCTYX = torch.randn(1, 16, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    exact_BCTYX, _ = Wan(folder=str(folder)).load().decode(latents_BCTYX)
    worker = Wan(folder=str(folder)).load(dtype=torch.bfloat16)
    half_BCTYX, cache = worker.decode(latents_BCTYX)
    assert half_BCTYX.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in cache.tensors.values()} == {torch.bfloat16}
    assert (half_BCTYX.float() - exact_BCTYX).abs().mean() < 0.05


def test_float64_is_as_exact_as_it_says(folder):
    worker = Wan(folder=str(folder)).load(dtype=torch.float64)
    assert {parameter.dtype for parameter in worker.vae.parameters()} == {torch.float64}
    latents_BCTYX = torch.randn(1, 16, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact_BCTYX = worker.decode(latents_BCTYX)[0]
    single_BCTYX = Wan(folder=str(folder)).load().decode(latents_BCTYX)[0]
    assert (single_BCTYX - exact_BCTYX).abs().max() < 1e-4


def test_a_whole_checkpoint_holds_it_in_its_folder_vae(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "Wan2.1" / "vae")
    latents_BCTYX = torch.zeros(1, 16, 1, 1, 1)
    worker = Wan(folder=str(tmp_path / "Wan2.1")).load()
    assert torch.equal(worker.decode(latents_BCTYX)[0], Wan(folder=str(folder)).load().decode(latents_BCTYX)[0])


def test_weights_in_shards_are_read(folder, tmp_path):
    diffusers_model(folder).save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert (tmp_path / "shards" / INDEX).exists()
    latents_BCTYX = torch.ones(1, 16, 2, 1, 1)
    worker = Wan(folder=str(tmp_path / "shards")).load()
    assert torch.equal(worker.decode(latents_BCTYX)[0], Wan(folder=str(folder)).load().decode(latents_BCTYX)[0])


def test_loading_asks_no_network(folder, monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    Wan(folder=str(folder)).load()
    assert "is not a folder with config.json" in line_of("Wan-AI/Wan2.1-T2V-1.3B-Diffusers")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_class_name": "AutoencoderKL"}, "describes 'AutoencoderKL'; AutoencoderKLWan"),
        ({"z_dim": 48}, r"'z_dim': 48.*'z_dim': 16"),
        ({"patch_size": 2}, "'patch_size': 2"),
        ({"dim_mult": [1, 2, 4]}, r"by \(4, 4\); \(4, 8\)"),
        ({"temperal_downsample": [False, False, True]}, r"by \(2, 8\); \(4, 8\)"),
        ({"temperal_downsample": None}, "is incomplete"),
        ({"latents_std": [1.0] * 15}, "no mean and deviation above 0"),
        ({"latents_std": [1.0] * 15 + [0.0]}, "no mean and deviation above 0"),
        ({"latents_mean": [float("nan")] * 16}, "no mean and deviation above 0"),
        ({"latents_mean": ["a"] * 16}, "is incomplete"),
        ({"base_dim": 8}, "cannot be loaded"),
        ({"base_dim": "many"}, "cannot be loaded"),
    ],
)
def test_a_config_that_does_not_fit_is_one_line(copy, changes, words):
    config = json.loads((copy / "config.json").read_text()) | changes
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=words):
        Wan(folder=str(copy)).load()
    line_of(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\xff"])
def test_a_config_that_is_no_json_object_is_one_line(copy, text):
    (copy / "config.json").write_bytes(text.encode("latin-1"))
    assert "config.json' " in line_of(copy)


def test_missing_and_strange_weights_are_refused_not_made_up(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / WEIGHTS)
    save_file({name: tensor for name, tensor in weights.items() if name != "decoder.conv_out.bias"}, copy / WEIGHTS)
    assert "lacks 1 weights and has 0 others, such as 'decoder.conv_out.bias'" in line_of(copy)
    save_file({**weights, "decoder.more": torch.ones(1)}, copy / WEIGHTS)
    assert "lacks 0 weights and has 1 others, such as 'decoder.more'" in line_of(copy)
    content = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(content[:5000])
    assert "cannot be loaded" in line_of(copy)


def test_a_pickle_is_not_read(copy):
    from safetensors.torch import load_file

    weights = load_file(copy / WEIGHTS)
    (copy / WEIGHTS).unlink()
    torch.save(weights, copy / "diffusion_pytorch_model.bin")
    assert "cannot be loaded" in line_of(copy)
    torch.save(weights, copy / "shard.bin")
    (copy / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, "shard.bin")}))
    assert "names 'shard.bin'; files that end in .safetensors" in line_of(copy)


def test_without_a_folder_or_diffusers_the_remedy_is_named(folder, monkeypatch):
    with pytest.raises(InputError, match="needs the option 'folder'"):
        registry.create("codecs", "wan")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert line_of(folder) == "diffusers is not installed; install its extra: pip install 's2search[video]'"


def test_naming_it_does_not_import_diffusers():
    program = (
        "import sys; from s2search import registry; registry.create('codecs', 'wan[folder=x]')\n"
        "assert not {'torch', 'diffusers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_whole_checkpoint_has_the_digest_of_its_folder_vae(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "Wan2.2" / "vae")
    (tmp_path / "Wan2.2/transformer").mkdir()
    (tmp_path / "Wan2.2/transformer/weights.safetensors").write_bytes(b"100 GB that no latent depends on")
    assert Wan(folder=str(tmp_path / "Wan2.2")).digest == Wan(folder=str(folder)).digest
    (tmp_path / "Wan2.2/vae/more").write_text("another")
    assert Wan(folder=str(tmp_path / "Wan2.2")).digest != Wan(folder=str(folder)).digest


@pytest.mark.parametrize(
    ("shard", "words"),
    [
        ("gone.safetensors", "names 'gone.safetensors', which is not there"),
        ("../outside.safetensors", "names '../outside.safetensors', which leads elsewhere"),
        ("/outside.safetensors", "names '/outside.safetensors', which leads elsewhere"),
        ({"a": 1}, "names \"{'a': 1}\"; files that end in .safetensors"),
    ],
)
def test_an_index_names_files_beside_it_and_nothing_else(copy, shard, words):
    shutil.move(copy / WEIGHTS, copy.parent / "outside.safetensors")
    (copy / INDEX).write_text(json.dumps({"weight_map": {"decoder.conv_out.bias": shard}}))
    assert words in line_of(copy)

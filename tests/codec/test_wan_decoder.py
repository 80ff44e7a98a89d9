"""Wan's decoder with frames as a batch, against diffusers' own, in float64: the difference is rounding."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search.codec.decoders.wan import WanDecoder
from s2search.codec.wan import Wan

pytest.importorskip("diffusers", reason="the extra s2search[video] is not installed")

OPTIONS = {"plain": {}, "residual": {"is_residual": True}, "time first": {"temperal_downsample": [True, True, False]}}


@pytest.fixture(scope="module", params=OPTIONS)
def pair(request, tmp_path_factory):
    """The codec, and the module that packages are made of."""
    from diffusers import AutoencoderKLWan
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanUpsample

    folder = tmp_path_factory.mktemp("wan")
    torch.manual_seed(0)
    vae = AutoencoderKLWan(base_dim=4, num_res_blocks=1, **OPTIONS[request.param])
    with torch.no_grad():
        for parameter in vae.parameters():  # norms start at one and biases near nothing
            parameter.add_(0.1 * torch.randn_like(parameter))
    vae.save_pretrained(folder)
    codec = Wan(folder=str(folder)).load(dtype=torch.float64)
    for module in codec.vae.modules():
        if isinstance(module, WanUpsample):  # diffusers rounds to float32 there
            module.forward = partial(torch.nn.Upsample.forward, module)
    return codec, WanDecoder(codec)


@settings(max_examples=5)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
@torch.no_grad()
def test_chunks_of_any_length_are_decoded_as_diffusers_does(pair, lengths, rows, columns, seed):
    codec, decoder = pair
    generator, cache, tensors = torch.Generator().manual_seed(seed), None, ()
    for frames in lengths:
        latents_BCTYX = torch.randn(1, 16, frames, rows, columns, generator=generator, dtype=torch.float64)
        expected_BCTYX, cache = codec.decode(latents_BCTYX, cache)
        found_BCTYX, *tensors = decoder(latents_BCTYX, *tensors, begins=cache.latent_frames == frames)
        assert (found_BCTYX - expected_BCTYX).abs().max() < 1e-11
        assert {tensor.dim() for tensor in tensors} == {4}
    assert len(tensors) == len(cache.tensors)


@torch.no_grad()
def test_features_too_large_to_square_in_float16_are_normalised(pair):
    _, decoder = pair
    norm = decoder.decoder.norm_out
    x_TCYX = torch.randn(1, len(norm.gamma), 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    half = type(norm)(norm).half()
    assert torch.allclose(half((3e4 * x_TCYX.clamp(-2, 2)).half()).double(), norm(x_TCYX.clamp(-2, 2)), atol=0.02)
    assert not half(torch.zeros(1, len(norm.gamma), 1, 1).half()).isnan().any()


def test_weights_have_the_names_and_the_numbers_of_diffusers(pair):
    codec, decoder = pair
    source, normalisation = codec.vae.state_dict(), {"mean", "std"}
    theirs = {name for name in source if name.startswith(("decoder.", "post_quant_conv."))}
    assert set(decoder.state_dict()) - normalisation == theirs
    for name in theirs:
        ours, wanted = decoder.state_dict()[name].double().flatten(), source[name].double().flatten()
        assert ours.sort().values.equal(wanted.sort().values), name

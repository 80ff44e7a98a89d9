"""`dct`'s decoder as a convolution and a shuffle, against the codec's own way over eight axes."""

import pytest
import torch

from s2search.codec.dct import BLOCK, DCT
from s2search.codec.decoders.dct import DCTDecoder


@pytest.mark.parametrize("frames", [1, 3])
@torch.no_grad()
def test_chunks_are_decoded_as_the_codec_does(frames):
    codec = DCT().load(dtype=torch.float64)
    decoder, cache = DCTDecoder(codec, BLOCK), None
    for chunk in range(3):
        generator = torch.Generator().manual_seed(chunk)
        latents_BCTYX = torch.randn(1, 16, frames, 2, 3, generator=generator, dtype=torch.float64)
        expected_BCTYX, cache = codec.decode(latents_BCTYX, cache)
        (found_BCTYX,) = decoder(latents_BCTYX, begins=chunk == 0)
        assert found_BCTYX.shape == expected_BCTYX.shape
        assert (found_BCTYX - expected_BCTYX).abs().max() < 1e-12

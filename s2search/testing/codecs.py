"""Conformance suite of codecs: `check_codec(MyCodec())` raises AssertionError at the first broken promise.

It imports torch, and runs the codec on small random video of odd latent grids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from s2search.codec.base import Cache, Codec, LoadedCodec
from s2search.errors import S2SearchError

_ROWS, _COLUMNS = 24, 40  # 3 x 5 latents: odd both ways
_LATENT_FRAMES = 4


def check_codec(codec: Codec, *, tolerance: float = 1e-5) -> None:
    """Hold a codec against its contract, on the CPU in float32.

    Args:
        codec: The codec to check.
        tolerance: How far the results of a stream in pieces may be from those of one call.
    """
    assert codec.statement.splitlines() == [codec.statement], f"{codec.name} does not say what it is in one line"
    assert codec.digest.startswith("sha256:"), "a digest says what latents depend on"
    worker = codec.load("cpu", torch.float32)
    assert worker.latent_channels == codec.latent_channels, "loaded, it has another number of channels"
    video_BCTYX, latents_BCTYX = _samples(codec.latent_channels)
    _check_geometry(worker)
    _check_pieces(worker.encode_chunk, video_BCTYX, first=1, later=4, tolerance=tolerance)
    _check_pieces(worker.decode, latents_BCTYX, first=1, later=1, tolerance=tolerance)
    _check_causality(worker, video_BCTYX, latents_BCTYX)
    _check_batch(worker, video_BCTYX, latents_BCTYX)
    _check_memory(worker)
    _check_range(worker, video_BCTYX, latents_BCTYX)
    _check_refusals(worker, video_BCTYX, latents_BCTYX)
    again = codec.load("cpu", torch.float32)
    assert torch.equal(worker.encode(video_BCTYX), again.encode(video_BCTYX)), "loaded twice, it encodes differently"


def _samples(channels: int) -> tuple[Tensor, Tensor]:
    """Return video of batch 2 within [-1, 1], and latents of as many frames and so many channels."""
    generator = torch.Generator().manual_seed(0)
    video_BCTYX = torch.rand(2, 3, 4 * _LATENT_FRAMES - 3, _ROWS, _COLUMNS, generator=generator) * 2 - 1
    return video_BCTYX, torch.randn(2, channels, _LATENT_FRAMES, _ROWS // 8, _COLUMNS // 8, generator=generator)


def _check_geometry(worker: LoadedCodec) -> None:
    for latent_frames, rows, columns in ((1, 1, 1), (2, 3, 5), (3, 2, 4)):
        frames = 4 * latent_frames - 3
        latents_BCTYX = worker.encode(torch.zeros(1, 3, frames, 8 * rows, 8 * columns))
        size = (1, worker.latent_channels, latent_frames, rows, columns)
        assert latents_BCTYX.shape == size, f"latents are {latents_BCTYX.shape}"
        video_BCTYX, cache = worker.decode(latents_BCTYX)
        assert video_BCTYX.shape == (1, 3, frames, 8 * rows, 8 * columns), f"the video is {video_BCTYX.shape}"
        for result in (latents_BCTYX, video_BCTYX):
            assert result.dtype == worker.dtype, f"the result is {result.dtype}"
            assert result.device == worker.device, f"the result is on {result.device}"
        assert worker.decode(latents_BCTYX, cache)[0].shape[2] == 4 * latent_frames, "a later latent is not four frames"


def _check_pieces(
    call: Callable[[Tensor, Cache | None], tuple[Tensor, Cache]],
    whole_BCTYX: Tensor,
    *,
    first: int,
    later: int,
    tolerance: float,
) -> None:
    """A stream gives the same however it is split, from fresh, repeated and reloaded caches."""
    expected_BCTYX, last = call(whole_BCTYX, None)
    assert last.latent_frames == _LATENT_FRAMES, f"the cache counts {last.latent_frames} latent frames"
    for lengths in _compositions(_LATENT_FRAMES):
        pieces = torch.split(whole_BCTYX, [first + later * (lengths[0] - 1), *(later * n for n in lengths[1:])], dim=2)
        results: list[Tensor] = []
        cache: Cache | None = None
        for piece_BCTYX in pieces:
            kept = {name: value.clone() for name, value in cache.named_tensors().items()} if cache else {}
            result_BCTYX, after = call(piece_BCTYX, cache)
            if cache:
                assert _same(kept, cache.named_tensors()), "a call changed the cache that it was given"
                once_more_BCTYX, other = call(piece_BCTYX, Cache.from_named_tensors(kept))
                assert torch.equal(result_BCTYX, once_more_BCTYX), "a reloaded cache gives another result"
                assert _same(after.named_tensors(), other.named_tensors()), "a reloaded cache goes on differently"
            results.append(result_BCTYX)
            cache = after
        assert cache is not None
        assert _same(cache.named_tensors(), last.named_tensors(), tolerance), f"split into {lengths}, the cache differs"
        worst = (torch.cat(results, dim=2) - expected_BCTYX).abs().max().item()
        assert worst <= tolerance, f"split into {lengths} latent frames, results are {worst:.2g} off those of one call"


def _compositions(total: int) -> Iterator[Sequence[int]]:
    """Yield every way to write a whole number as a sum of whole numbers from 1."""
    if total == 0:
        yield ()
    for head in range(1, total + 1):
        for tail in _compositions(total - head):
            yield (head, *tail)


def _same(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 0.0) -> bool:
    if {name: tensor.shape for name, tensor in one.items()} != {name: tensor.shape for name, tensor in other.items()}:
        return False
    return all(torch.allclose(one[name], other[name], rtol=0, atol=tolerance) for name in one)


def _check_causality(worker: LoadedCodec, video_BCTYX: Tensor, latents_BCTYX: Tensor) -> None:
    for first_changed in range(1, _LATENT_FRAMES):
        frames = 4 * first_changed - 3
        other_BCTYX = latents_BCTYX.clone()
        other_BCTYX[:, :, first_changed:] += 1
        one_BCTYX, two_BCTYX = (worker.decode(latents)[0] for latents in (latents_BCTYX, other_BCTYX))
        assert torch.equal(one_BCTYX[:, :, :frames], two_BCTYX[:, :, :frames]), "a later latent changes earlier frames"
        assert not torch.equal(one_BCTYX, two_BCTYX), "decoding ignores latents"
        other_BCTYX = video_BCTYX.clone()
        other_BCTYX[:, :, frames:] *= -1
        one_BCTYX, two_BCTYX = (worker.encode(video)[:, :, :first_changed] for video in (video_BCTYX, other_BCTYX))
        assert torch.equal(one_BCTYX, two_BCTYX), "later frames change earlier latents"


def _check_batch(worker: LoadedCodec, video_BCTYX: Tensor, latents_BCTYX: Tensor) -> None:
    """Another batch may take another kernel, so rounding counts for nothing here."""
    for row in range(len(video_BCTYX)):
        alone_BCTYX = worker.encode(video_BCTYX[row : row + 1])
        assert (alone_BCTYX - worker.encode(video_BCTYX)[row]).abs().max() <= 1e-3, "videos of a batch mix"
        alone_BCTYX = worker.decode(latents_BCTYX[row : row + 1])[0]
        assert (alone_BCTYX - worker.decode(latents_BCTYX)[0][row]).abs().max() <= 1e-3, "latents of a batch mix"


def _check_memory(worker: LoadedCodec) -> None:
    """From the third call on a stream's cache keeps its size, whatever has passed."""
    caches: dict[str, Cache | None] = {"encode": None, "decode": None}
    sizes = []
    for chunk in range(6):
        video_BCTYX = torch.zeros(1, 3, 8 + (chunk == 0), 16, 24)
        latents_BCTYX, caches["encode"] = worker.encode_chunk(video_BCTYX, caches["encode"])
        _, caches["decode"] = worker.decode(latents_BCTYX, caches["decode"])
        sizes.append(tuple(cache.cache_bytes for cache in caches.values() if cache is not None))
    assert len(set(sizes[2:])) == 1, f"the caches grow: {sizes} bytes"


def _check_range(worker: LoadedCodec, video_BCTYX: Tensor, latents_BCTYX: Tensor) -> None:
    for factor in (0.0, 1.0, 100.0):
        decoded_BCTYX, _ = worker.decode((latents_BCTYX * factor).requires_grad_())
        assert decoded_BCTYX.abs().max() <= 1, f"pixels reach {decoded_BCTYX.abs().max()}"
        assert not decoded_BCTYX.requires_grad, "decoding keeps a graph for gradients"
    assert not worker.encode(video_BCTYX.clone().requires_grad_()).requires_grad, "encoding keeps a graph for gradients"


def _check_refusals(worker: LoadedCodec, video_BCTYX: Tensor, latents_BCTYX: Tensor) -> None:
    """What does not fit is refused in one line."""
    _, encoded = worker.encode_chunk(video_BCTYX, None)
    _, decoded = worker.decode(latents_BCTYX)
    refused: list[Callable[[], object]] = [
        *(lambda n=n: worker.encode(video_BCTYX[:, :, :n]) for n in (0, 2, 3, 4)),
        *(lambda n=n: worker.encode_chunk(video_BCTYX[:, :, :n], encoded) for n in (0, 1, 3, 5)),
        lambda: worker.encode(video_BCTYX[:, :1]),
        lambda: worker.encode(video_BCTYX[..., 1:]),
        lambda: worker.encode(video_BCTYX[..., :23, :]),
        lambda: worker.encode(video_BCTYX[0]),
        lambda: worker.encode((video_BCTYX * 255).to(torch.uint8)),
        lambda: worker.encode_chunk(video_BCTYX[:, :, :4], decoded),
        lambda: worker.encode_chunk(video_BCTYX[..., :4, :16, :], encoded),
        lambda: worker.decode(latents_BCTYX[:, 1:]),
        lambda: worker.decode(latents_BCTYX[:, :, :0]),
        lambda: worker.decode(latents_BCTYX[0]),
        lambda: worker.decode(latents_BCTYX, encoded),
        lambda: worker.decode(latents_BCTYX[:1], decoded),
        lambda: worker.decode(latents_BCTYX[..., 1:], decoded),
    ]
    for number, call in enumerate(refused):
        line = _refusal(call)
        assert line.splitlines() == [line], f"call {number} of what should be refused gives {line!r}, not one line"


def _refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except S2SearchError as error:
        return str(error)
    return ""

"""Conformance suite of teachers: `check_teacher(MyTeacher())` raises AssertionError at a broken promise."""

from __future__ import annotations

import torch

from s2search.training.teachers.base import Teacher, asked, check_experts

_SIZE = (3, 8, 8)  # latent frames, rows, columns


def check_teacher(teacher: Teacher) -> None:
    """Hold a teacher against its contract on the processor: experts, prompts, and answers one by one and together.

    Args:
        teacher: A small one; each of its experts is held once.
    """
    cpu = torch.device("cpu")
    assert teacher.statement.splitlines() == [teacher.statement], "the statement is not one line"
    check_experts(teacher.experts)
    assert len({expert.name for expert in teacher.experts}) == len(teacher.experts), "two experts have one name"
    assert teacher.files == teacher.files, "the hashes of its files change"
    assert all(digest.startswith("sha256:") for digest in teacher.files.values()), "a file's hash says which it is"
    sizes = teacher.sizes()
    assert {expert.name for expert in teacher.experts} <= sizes.keys(), "an expert's parameters are not counted"
    prompts = ["a red box", "a very long prompt about a box that moves, and " * 3, teacher.negative]
    with teacher.reading(cpu) as read:
        texts, again = read(prompts), [read([prompt])[0] for prompt in prompts]
    for text, alone in zip(texts, again, strict=True):
        assert text.ndim == 2, f"tokens have the shape {tuple(text.shape)}"
        assert torch.allclose(text.float(), alone.float(), atol=1e-4), "a prompt's tokens depend on those beside it"
    size = (teacher.latent_channels, *_SIZE)
    x_BCTYX = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    for expert in teacher.experts:
        s_B = torch.tensor([0.75 * expert.low + 0.25 * expert.high, 0.25 * expert.low + 0.75 * expert.high])
        with teacher.answering(expert, cpu, torch.float32) as velocity:
            kept = x_BCTYX.clone()
            v_BCTYX = velocity(x_BCTYX, s_B, texts[:2])
            assert torch.equal(x_BCTYX, kept), "it changes what it is asked about"
            assert v_BCTYX.shape == x_BCTYX.shape, f"an answer has the shape {tuple(v_BCTYX.shape)}"
            assert v_BCTYX.dtype == torch.float32, "an answer is no float32"
            assert not v_BCTYX.requires_grad, "an answer keeps what it was computed from"
            assert v_BCTYX.isfinite().all(), "an answer is not finite"
            assert torch.equal(v_BCTYX, velocity(x_BCTYX, s_B, texts[:2])), "the second answer is another one"
            for number in range(2):
                alone = velocity(x_BCTYX[number : number + 1], s_B[number : number + 1], texts[number : number + 1])[0]
                assert torch.allclose(v_BCTYX[number], alone, rtol=1e-3, atol=1e-4), "an answer depends on others"
            other = velocity(x_BCTYX, s_B.flip(0), texts[:2])
            assert not torch.equal(v_BCTYX, other), "the noise level changes nothing"
            negative = texts[-1]
            w = 2.0
            c, u = velocity(x_BCTYX, s_B, texts[:2]), velocity(x_BCTYX, s_B, [negative] * 2)
            assert torch.allclose(asked(velocity, x_BCTYX, s_B, texts[:2], negative, w), u + w * (c - u), atol=1e-5)

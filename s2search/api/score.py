"""The command `score`: what candidates are worth at each layer of a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2search.api.processes import joined
from s2search.api.values import Blocks, PathText, blocks_of, check_of
from s2search.document import check_folder
from s2search.errors import InputError, require

if TYPE_CHECKING:
    from s2search.score.check import ScoreCheck
    from s2search.score.measured import MeasuredScore
    from s2search.text.base import TextEncoder
    from s2search.training.parallel import Processes
    from s2search.training.scores import FrozenModel


def score_measure(
    weights: PathText,
    data: PathText,
    out: PathText,
    *,
    candidates: Blocks = "lcha,ssa,kv_compressed",
    runs: Sequence[int] = (),
    steps: tuple[int, int] = (90, 180),
    batch: int = 8,
    samples: int = 512,
    lr: float = 2e-3,
    shift: float = 3.0,
    text: str | TextEncoder | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> MeasuredScore:
    """Measure what a trained model loses where candidates stand in for its layers.

    Under torchrun every process calls it; they divide the layers, each on a device of its own.

    Args:
        weights: A folder that save_pretrained or `train` wrote; its layers all run in the high stream.
        data: A folder that `data make` wrote.
        out: The folder. An unfinished measurement is finished.
        candidates: Blocks to choose from.
        runs: Also runs of low candidates over so many layers, trained jointly.
        steps: Of training a candidate, a shorter time and the whole; values at both are kept.
        batch: Clips of a step.
        samples: Held out, to compare on.
        lr: Learning rate at its highest.
        shift: How far noise levels are pushed towards 1.
        text: Text encoder; `hashing`, as wide as the model, by default.
        seed: Of weights, order and noise.
        device: Where it is computed: cpu or cuda.

    Raises:
        InputError: Something does not go together, or the folder holds another measurement.
        CheckError: A candidate's training is not finite.
    """
    check_folder(Path(out))
    blocks = blocks_of(candidates)
    if not blocks:
        raise InputError("there is no candidate", remedy="name blocks, such as lcha,ssa")
    require("torch", "safetensors")
    from s2search.training.scores import Question, measure

    with joined(device, "measuring") as (where, progress):
        teacher = _teacher(weights, data, text, where)
        question = Question(
            model=teacher.model.weights_digest(),
            config=teacher.model.config.digest,
            data=teacher.clips.digest,
            text=teacher.captions.encoder.label,
            candidates=tuple(block.label for block in blocks),
            runs=tuple(runs),
            steps=steps,
            batch=batch,
            samples=samples,
            lr=lr,
            shift=shift,
            seed=seed,
        )
        return measure(teacher, question, Path(out), where=where, progress=progress)


def score_check(
    scores: PathText,
    weights: PathText,
    data: PathText,
    *,
    high: str = "lcha",
    low: str = "ssa",
    low_layers: int | None = None,
    begins_high: bool = False,
    layouts: int = 16,
    seeds: int = 3,
    steps: int = 60,
    batch: int = 8,
    samples: int = 512,
    lr: float = 1e-3,
    shift: float = 3.0,
    text: str | TextEncoder | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> ScoreCheck:
    """Train layouts, and say how a measured score orders them.

    Under torchrun every process calls it; they divide layouts and seeds, each on a device of its own.

    Args:
        scores: A folder that `score measure` wrote.
        weights: The model that it was measured on.
        data: The clips.
        high: The candidate of the high stream.
        low: That of the low stream.
        low_layers: Low layers of each layout; half of them by default.
        begins_high: Draw only layouts whose first layer is high, as plans have it wherever they can.
        layouts: How many are drawn, each with as many low layers.
        seeds: How often each is tuned.
        steps: Of tuning.
        batch: Clips of a step.
        samples: Held out, to compare on.
        lr: Learning rate at its highest.
        shift: How far noise levels are pushed towards 1.
        text: Text encoder; `hashing`, as wide as the model, by default.
        seed: Of the layouts.
        device: Where it is computed: cpu or cuda.

    Raises:
        InputError: Something does not go together, or the folder holds another check.
        CheckError: A layout's training is not finite.
    """
    require("torch", "safetensors")
    from s2search.score.check import CheckQuestion
    from s2search.score.measured import MeasuredScore
    from s2search.training.score_check import check
    from s2search.training.scores import SCORE

    folder = Path(scores)
    score = MeasuredScore.load(folder / SCORE)
    with joined(device, "tuning") as (where, progress):
        teacher = _teacher(weights, data, text, where)
        digest = teacher.model.weights_digest()
        if score.provenance.get("model") != digest:
            raise InputError(
                f"the score in {str(folder)!r} was measured on the weights {score.provenance.get('model', '')[:19]}, "
                f"and these are {digest[:19]}",
                remedy="name the model that it was measured on",
            )
        question = CheckQuestion(
            score=score.digest,
            model=digest,
            data=teacher.clips.digest,
            high=high,
            low=low,
            low_layers=score.depth // 2 if low_layers is None else low_layers,
            begins_high=begins_high,
            layouts=layouts,
            seeds=seeds,
            steps=steps,
            batch=batch,
            samples=samples,
            lr=lr,
            shift=shift,
            seed=seed,
        )
        return check(teacher, score, question, folder, where=where, progress=progress)


def score_judge(score: PathText | MeasuredScore, check: PathText | ScoreCheck) -> ScoreCheck:
    """Say how a measured score orders layouts that were trained from another one, such as on other data.

    Nothing is trained: the layouts are those of the check, and the predictions this score's.

    Args:
        score: What `score measure` wrote: score.json.
        check: What `score check` wrote of the other: check.json.

    Raises:
        ScoreError: The score cannot be read, or lacks one of the candidates.
    """
    from s2search.score.judge import judged
    from s2search.score.measured import MeasuredScore

    measured = score if isinstance(score, MeasuredScore) else MeasuredScore.load(score)
    return judged(measured, check_of(check))


def _teacher(weights: PathText, data: PathText, text: str | TextEncoder | None, where: Processes) -> FrozenModel:
    import torch

    from s2search.network.network import S2DiT
    from s2search.training.captions import Captions, text_encoder
    from s2search.training.data.clips import Clips
    from s2search.training.scores import FrozenModel

    clips = Clips.load(Path(data))
    if not Path(weights).is_dir():
        raise InputError(f"there is no folder of weights {str(weights)!r}", remedy="name what save_pretrained wrote")
    model: S2DiT = S2DiT.from_pretrained(Path(weights))
    encoder = text_encoder(text, model.config.preset)
    captions = Captions(encoder, where.device, torch.float32)
    return FrozenModel(model=model.to(where.device).requires_grad_(False), clips=clips, captions=captions)

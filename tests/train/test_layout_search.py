"""Layout search: masks keep the plan's counts, hard ones are static networks, and what is left keeps the budgets."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import shutil
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

import s2search
from s2search import registry
from s2search.errors import S2SearchError
from s2search.network.config import ModelConfig
from s2search.network.network import S2DiT
from s2search.network.weight_file import weights_digest
from s2search.planner.find import find
from s2search.planner.plan import Plan
from s2search.planner.replan import asked_again, tables_behind
from s2search.preset import Preset
from s2search.score.file import open_score
from s2search.solver.dynamic import Dynamic
from s2search.tables.table import LatencyTable, open_table
from s2search.testing.trainers import check_trainer
from s2search.training.base import TrainingRun
from s2search.training.engine import Engine, Outcome
from s2search.training.flow import Flow
from s2search.training.judge import parts
from s2search.training.layout_search import LayoutSearch, TwoCandidates
from s2search.training.noisy import NoisyBatch
from s2search.training.parallel import ALONE, Processes, processes
from s2search.training.prepare import PreparedRun
from s2search.training.run_folder import read_metrics
from s2search.training.scored_blocks import mean_switches
from s2search.training.settings import EngineSettings, RunSettings, overridden
from s2search.training.share import Share, shares
from s2search.training.supernet import MaskedSupernet, Supernet, mask_logits, sample_mask, undecided
from tests.train.ranks import ranks

PHONE = "iphone-16-pro-max.coreml.w4a8"
SIZES = Preset(name="nano", depth=4, channels=16, heads=2, feed_forward=32, text_channels=8, text_tokens=6)


@pytest.fixture(autouse=True, scope="module")
def _alone(one_thread: None) -> None:
    """Every test here."""


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the checkout was installed before there was this trainer."""
    entry = EntryPoint("layout_search", "s2search.training.layout_search:LayoutSearch", "s2search.trainers")
    monkeypatch.setitem(registry.installed("trainers"), "layout_search", entry)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, sizes, and a plan of two high and two low layers."""
    folder = tmp_path_factory.mktemp("layouts")
    s2search.data_make("shapes[count=10]", folder / "clips", video="32x32", frames=9, clips=2, held_out=0.2)
    fields = {name: getattr(SIZES, name) for name in Preset.__dataclass_fields__ if name not in ("name", "layout")}
    (folder / "nano.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items()))
    s2search.plan(PHONE, depth=4, budget="41ms").save(folder / "plan.json")
    return folder


def asked(made: Path, **changes: Any) -> dict[str, Any]:
    given = {
        "data": str(made / "clips"),
        "trainer": "layout_search[draws=2]",
        "model.preset": str(made / "nano.toml"),
        "model.plan": str(made / "plan.json"),
        "optimizer.steps": 4,
        "optimizer.batch": 4,
        "optimizer.warmup": 1,
        "engine.save_every": 2,
        "engine.log_every": 1,
        "judge.samples": 8,
        "judge.strips": 1,
    }
    return given | {key.replace("__", "."): value for key, value in changes.items()}


def engine_of(made: Path, folder: Path, by: Any = None, where: Processes = ALONE, **changes: Any) -> Engine:
    listed = [f"{key}={json.dumps(value)}" for key, value in asked(made, **changes).items()]
    prepared = PreparedRun.of(RunSettings.of(overridden({}, listed)))
    prepared = dataclasses.replace(prepared, trainer=by or prepared.trainer)
    folder.mkdir(exist_ok=True)
    return Engine(trainer=prepared.trainer, run=prepared.run(folder, where), folder=folder, where=where)


@pytest.fixture(scope="module")
def whole(made: Path) -> Outcome:
    """A run from the first step to the last."""
    with pytest.MonkeyPatch.context() as patch:
        entry = EntryPoint("layout_search", "s2search.training.layout_search:LayoutSearch", "s2search.trainers")
        patch.setitem(registry.installed("trainers"), "layout_search", entry)
        return s2search.train(out=made / "whole", settings=asked(made))


# The supernet under a mask


def masked(depth: int = 6, *, seed: int = 1, rate: float = 1.0, group_size: int = 1) -> MaskedSupernet:
    sizes = dataclasses.replace(SIZES, depth=depth)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MaskedSupernet(Supernet(sizes, group_size=group_size), rate=rate).double()


def samples(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    return draw(2, 16, 2, 4, 4), torch.full((2, 1), 0.5), draw(2, 6, 8), draw(2, 16, 2, 4, 4)


def loss(net: Any, seed: int, *mask: Any) -> Tensor:
    x, s, text, v = samples(seed)
    off: Tensor = net(x, s, text, *mask) - v
    return off.square().mean()


@pytest.mark.parametrize("group_size", [1, 2])
@pytest.mark.parametrize("mask", [(1, 0, 0, 1), (0, 1, 1, 0), (0, 0, 1, 0)], ids=str)
def test_a_hard_mask_gives_the_static_networks_loss_and_gradients(mask: tuple[int, ...], group_size: int) -> None:
    net, mask_M = masked(4 * group_size, group_size=group_size), torch.tensor(mask, dtype=torch.float64)
    (of_net := loss(net, 0, lambda logits_M: mask_M)).backward()
    gradients = {id(weight): weight.grad for weight in net.parameters()}
    for weight in net.parameters():
        weight.grad = None
    static = net.supernet.extract(mask_M)
    (of_static := loss(static, 0)).backward()
    assert of_net.item() == pytest.approx(of_static.item(), rel=1e-14)
    for name, weight in static.named_parameters():
        torch.testing.assert_close(gradients.pop(id(weight)), weight.grad, rtol=1e-10, atol=1e-14, msg=name)
    for rest in gradients.values():
        assert rest is None or not rest.any()


def expected_loss(logits_M: Tensor, high: int, loss_of: Mapping[tuple[int, ...], float]) -> Tensor:
    """The mean loss over all masks: each is drawn where its lowest perturbed logit is above all others.

    The perturbation is logistic; the probability that the lowest of those taken is at t, all others taken are above,
    and those left are below, is integrated over t.
    """
    t = torch.linspace(-40, 40, 4001, dtype=torch.float64)
    below_TM = torch.sigmoid(t[:, None] - logits_M)
    density_TM = below_TM * (1 - below_TM)
    found = torch.zeros((), dtype=torch.float64)
    for taken, value in loss_of.items():
        left = [m for m in range(len(logits_M)) if m not in taken]
        lowest_T = sum(
            density_TM[:, m] * (1 - below_TM[:, [other for other in taken if other != m]]).prod(1) for m in taken
        )
        found = found + value * torch.trapezoid(lowest_T * below_TM[:, left].prod(1), t)
    return found


@pytest.mark.parametrize("seed", [0, 4])
def test_the_mean_gradient_of_64_draws_is_near_that_of_the_expected_loss(seed: int) -> None:
    """Not in every random network: a straight-through gradient is biased; docs/decisions/training.md has figures."""
    net, every = masked(seed=seed), list(itertools.combinations(range(6), 3))
    masks = torch.zeros(20, 6, dtype=torch.float64)
    for row, taken in zip(masks, every, strict=True):
        row[list(taken)] = 1
    with torch.no_grad():
        loss_of = {taken: float(loss(net, seed, lambda _, m=m: m)) for taken, m in zip(every, masks, strict=True)}
        net.leaning_M.copy_(
            torch.linspace(-0.5, 0.5, 6)[torch.randperm(6, generator=torch.Generator().manual_seed(seed))]
        )
    logits_M = net.leaning_M.detach().clone().requires_grad_()
    assert expected_loss(logits_M, 3, dict.fromkeys(every, 1.0)).item() == pytest.approx(1.0, abs=1e-6)
    (wanted,) = torch.autograd.grad(expected_loss(logits_M, 3, loss_of), logits_M)
    net.requires_grad_(False).leaning_M.requires_grad_()
    draw = functools.partial(sample_mask, high=3, temperature=1.0, generator=torch.Generator().manual_seed(0))
    for _ in range(64):
        loss(net, seed, draw).backward()
    assert net.leaning_M.grad is not None
    assert float(torch.cosine_similarity(net.leaning_M.grad, wanted, dim=0)) >= 0.8


def test_what_all_logits_have_in_common_gets_no_gradient() -> None:
    net = masked()
    loss(net, 0, lambda logits_M: sample_mask(logits_M, 3, temperature=0.5)).backward()
    assert net.leaning_M.grad is not None
    assert float(net.leaning_M.grad.abs().max()) > 1e-6
    assert float(net.leaning_M.grad.sum()) == pytest.approx(0.0, abs=1e-12)


def test_logits_move_faster_than_weights_by_the_rate_and_their_gradient_is_not_larger() -> None:
    gradients, moved = [], []
    for rate in (1.0, 50.0):
        net = masked(rate=rate)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0)
        draw = functools.partial(sample_mask, high=3, temperature=1.0, generator=torch.Generator().manual_seed(0))
        loss(net, 0, draw).backward()
        gradients.append(net.leaning_M.grad)
        optimizer.step()
        moved.append(mask_logits(net.leaning_M, rate).detach())
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(50 * moved[0], moved[1], rtol=1e-5, atol=1e-9)


def test_a_mask_is_open_until_its_logits_are_apart() -> None:
    apart = torch.tensor([1.0, -1.0, 1.0, -1.0])
    found = [float(undecided(scale * apart, 2)) for scale in (0.0, 1.0, 3.0, 10.0)]
    assert found == sorted(found, reverse=True)
    assert (found[0], found[-1] < 0.01) == (1.0, True)
    assert float(undecided(apart + 100, 2)) == pytest.approx(float(undecided(apart, 2)))


# A step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen(LayoutSearch):
    """Keeps the masks that it drew."""

    masks: list[Tensor] = dataclasses.field(default_factory=list, compare=False)

    def step(self, run: TrainingRun, networks: Mapping[str, nn.Module], share: Share) -> Mapping[str, Tensor]:
        network: Any = networks["model"]
        hook = network.supernet.register_forward_pre_hook(lambda _, inputs: self.masks.append(inputs[3].detach()))
        try:
            return super().step(run, networks, share)
        finally:
            hook.remove()


def test_every_draw_keeps_the_counts_and_all_parts_of_a_step_draw_the_same(made: Path, tmp_path: Path) -> None:
    trainer = Seen(draws=3)
    engine = engine_of(made, tmp_path / "run", trainer)
    networks, _ = engine.started()
    high = TwoCandidates.of(engine.run.plan).high_groups
    steps = []
    for number in range(6):
        share = Share(seed=0, step=number, batch=4, numbers=range(4))
        for part in (share, *shares(share, 2)):
            trainer.step(engine.run, networks, part)
        drawn = torch.stack(trainer.masks).reshape(3, 3, 4).round(decimals=5)
        assert torch.equal(drawn[0], drawn[1])
        assert torch.equal(drawn[0], drawn[2])
        assert torch.equal(drawn.sum(2), torch.full((3, 3), float(high)))
        steps.append(drawn[0])
        trainer.masks.clear()
    assert len({tuple(mask.tolist()) for mask in torch.cat(steps)}) > 2


def test_the_temperature_falls_by_the_same_factor_from_the_first_to_the_last_step() -> None:
    trainer = LayoutSearch(temperature=2.0, coolest=0.02)
    found = [trainer.temperature_at(step, 101) for step in range(101)]
    assert (found[0], found[50], found[100]) == pytest.approx((2.0, 0.2, 0.02))
    assert all(before > after for before, after in itertools.pairwise(found))
    assert trainer.temperature_at(0, 1) == 2.0


def test_a_cooler_mask_has_a_steeper_gradient_at_fewer_groups() -> None:
    """The soft mask is closer to the hard one: a sigmoid's slope is at most a quarter of the inverse temperature."""

    def gradient(temperature: float) -> Tensor:
        logits_M, found = torch.linspace(-3, 3, 8, requires_grad=True), []
        for seed in range(20):
            generator = torch.Generator().manual_seed(seed)
            mask_M = sample_mask(logits_M, 4, temperature=temperature, generator=generator)
            found += torch.autograd.grad(mask_M.sum(), logits_M)
        return torch.stack(found)

    warm, cool = gradient(1.0), gradient(0.1)
    assert warm.min() >= 0
    assert 0.2 < warm.max() <= 0.25 < cool.max() <= 2.5
    assert (cool > 1e-2).sum() < (warm > 1e-2).sum() / 2


# What is left


@functools.cache
def with_switches() -> LatencyTable:
    """A phone whose switches take as much as a low layer."""
    table = open_table(PHONE)
    rows = [
        dataclasses.replace(row, latency_ms=4.0 if row.part == "down" else 5.0) if row.part in ("down", "up") else row
        for row in table.rows
    ]
    return dataclasses.replace(table, name="switching", rows=rows)


@given(
    logits=st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=6, max_size=6),
    high=st.integers(1, 5),
    group_size=st.sampled_from([1, 2]),
    over_us=st.integers(0, 30_000),
)
def test_what_is_found_keeps_budgets_and_counts_and_no_layout_that_does_has_higher_logits(
    logits: list[float], high: int, group_size: int, over_us: int
) -> None:
    depth, table = 6 * group_size, with_switches()
    shape: dict[str, Any] = {"depth": depth, "group_size": group_size, "count": f"lcha={high * group_size}"}
    fastest = s2search.plan(table, **shape, budget="10s")  # of those that tie, the fastest
    plan = s2search.plan(table, **shape, budget=f"{round(1000 * fastest.latency_ms.predicted) + over_us}us")
    pair = TwoCandidates.of(plan)
    request = asked_again(plan, tables_behind(plan, [table]), pair.score(logits, "drawn"))
    found = find(request, Dynamic())
    assert found.fits
    assert found.counts == plan.counts
    assert found.latency_ms.budget == plan.latency_ms.budget
    assert found.latency_ms.predicted <= (plan.latency_ms.budget or 0)
    best = max(
        sum(logits[m] for m in taken)
        for taken in itertools.combinations(range(6), high)
        if request.admits([int(m not in taken) for m in range(6) for _ in range(group_size)])
    )
    assert sum(logit for logit, m in zip(logits, TwoCandidates.of(found).mask, strict=True) if m) == pytest.approx(best)


def test_a_run_leaves_a_plan_with_its_model_and_says_what_both_came_from(made: Path, whole: Outcome) -> None:
    asked_of, plan = Plan.load(made / "plan.json"), Plan.load(whole.folder / "plan.json")
    assert plan.counts == asked_of.counts
    assert plan.fits
    assert plan.provenance.table_digest == asked_of.provenance.table_digest
    score = open_score(whole.folder / "mask.json")
    assert (plan.provenance.score, plan.provenance.score_digest) == ("layout_search", score.digest)
    model = S2DiT.from_pretrained(whole.folder / "model", plan=plan)
    assert model.config.layout == plan.layout
    assert whole.left == f"the layout {plan.written}, of the plan's counts and within its budgets " + (
        f"({asked_of.written} before): plan.json"
    )
    assert whole.left in (whole.folder / "report.html").read_text().replace("&#x27;", "'")
    record = json.loads((whole.folder / "run.json").read_text())
    assert record["digests"][f"table.{PHONE}"] == plan.provenance.table_digest
    values = {name for _, name, _ in read_metrics(whole.folder)}
    assert values >= {"loss", "undecided", "gradient.model"}
    again = s2search.plan(PHONE, depth=4, budget="41ms", count="lcha=2", score=whole.folder / "mask.json")
    assert again.layout == plan.layout


def test_the_model_is_the_averaged_supernet_under_the_mask(made: Path, whole: Outcome) -> None:
    (file,) = (whole.folder / "checkpoints/00000004").glob("*.safetensors")
    start = "average.model."
    average = {name.removeprefix(start): t for name, t in load_file(file).items() if name.startswith(start)}
    plan = Plan.load(whole.folder / "plan.json")
    assert weights_digest(average.items())[:19] in plan.provenance.score_statement
    net = MaskedSupernet(Supernet(SIZES, velocity="residual"))
    net.load_state_dict(average)
    model = S2DiT.from_pretrained(whole.folder / "model")
    static = net.supernet.extract(torch.tensor(TwoCandidates.of(plan).mask)).state_dict()
    assert static.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, static[name]) for name, tensor in model.state_dict().items())
    rate = 20.0 / (0.5 * 1e-3 * 4)
    stated = open_score(whole.folder / "mask.json").scores["lcha"]  # type: ignore[attr-defined]
    assert stated == pytest.approx(mask_logits(net.leaning_M, rate).tolist(), abs=1e-5)


def test_the_judgement_is_that_of_the_model_that_is_left(made: Path, whole: Outcome, tmp_path: Path) -> None:
    run = engine_of(made, tmp_path / "run").run
    model = S2DiT.from_pretrained(whole.folder / "model")
    with torch.no_grad():
        found = parts(dict(Flow().judge(run, model, range(8), 8)))
    assert whole.judgement is not None
    assert [part.name for part in whole.judgement.parts] == ["train", "held-out"]
    for one, other in zip(whole.judgement.parts, found, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-6)


def test_the_trainer_keeps_its_contract_killed_and_resumed(tmp_path: Path) -> None:
    s2search.plan(PHONE, depth=2, budget="25ms").save(tmp_path / "plan.json")
    model = {"preset": str(tmp_path / "nano.toml"), "plan": str(tmp_path / "plan.json")}
    check_trainer(LayoutSearch(draws=2), tmp_path, settings={"model": model})
    for name in ("plan.json", "mask.json"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "stopped" / name).read_text()


def test_two_processes_find_what_one_does(made: Path, tmp_path: Path) -> None:
    changes = {"optimizer__steps": 2, "judge__strips": 0}
    engine_of(made, tmp_path / "one", **changes).train()

    def rank() -> None:
        with processes(EngineSettings()) as where:
            engine_of(made, tmp_path / "two", None, where, **changes).train()

    ranks(2, rank)
    one, both = (load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two"))
    assert one.keys() == both.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, both[name], rtol=0, atol=1e-5, msg=name)
    first, second = (json.loads((tmp_path / name / "mask.json").read_text()) for name in ("one", "two"))
    assert first["scores"]["lcha"] == pytest.approx(second["scores"]["lcha"], abs=1e-2)
    losses = [
        [part["loss"] for part in json.loads((tmp_path / name / "judgement.json").read_text())["parts"]]
        for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_it_runs_in_bfloat16_and_where_layers_are_computed_twice(made: Path, tmp_path: Path) -> None:
    engine = engine_of(made, tmp_path / "run", engine__dtype="bfloat16", optimizer__steps=1, judge__strips=0)
    with processes(engine.run.settings.engine) as where:
        outcome = dataclasses.replace(engine, where=where).train()
    assert outcome.steps == 1
    twice, plain = (
        engine_of(made, tmp_path / name, engine__recompute=name == "twice", optimizer__steps=2, judge__strips=0)
        for name in ("twice", "plain")
    )
    for one in (twice, plain):
        one.train()
    one, other = (load_file(tmp_path / name / "model/model.safetensors") for name in ("twice", "plain"))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=1e-6, msg=name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planted(LayoutSearch):
    """Learns what one layout of its first weights answers."""

    planted: str = ""

    def learned(self, run: TrainingRun, share: Share) -> NoisyBatch:
        batch = super().learned(run, share)
        with torch.no_grad():
            v = _planted(run, self.planted)(batch.x_BCTYX, batch.s_B[:, None], run.captions.tokens(batch.captions))
        return dataclasses.replace(batch, v_BCTYX=v)


@functools.cache
def _of_folder(folder: Path, planted: str) -> S2DiT:
    net = MaskedSupernet(Supernet(SIZES))
    net.load_state_dict(load_file(folder / "supernet/model.safetensors"))
    return net.supernet.extract(torch.tensor([float(letter == "L") for letter in planted]))


def _planted(run: TrainingRun, planted: str) -> S2DiT:
    return _of_folder(run.folder, planted)


@pytest.mark.parametrize("planted", ["SLLS", pytest.param("LSSL", marks=pytest.mark.slow)])
def test_a_planted_layout_is_found(made: Path, tmp_path: Path, planted: str) -> None:
    """Weights hardly move, and only one layout of them answers right."""
    trainer = Planted(planted=planted, draws=4, caption_drop=0.0)
    changes = {"model__velocity": "plain", "optimizer__steps": 30, "optimizer__lr": 1e-6, "judge__strips": 0}
    told: list[str] = []
    engine = engine_of(made, tmp_path / "run", trainer, engine__save_every=30, optimizer__ema=0.5, **changes)
    engine.train(lambda done, total, label: told.append(label))
    plan = Plan.load(tmp_path / "run/plan.json")
    assert "".join("L" if m else "S" for m in TwoCandidates.of(plan).mask) == planted
    open_still = [value for _, name, value in read_metrics(tmp_path / "run") if name == "undecided"]
    assert open_still[0] == 1.0
    assert open_still[-1] < 0.5
    assert told[-1].endswith(f", mask {plan.written}")


# Scores


@pytest.fixture(scope="module")
def scored(made: Path) -> Path:
    """A model of full attention whose weights are all different, and scores of two candidates."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = S2DiT(ModelConfig.new(Preset.named(str(made / "nano.toml")), ("full",) * 4, velocity="residual"))
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(made / "scored")
    s2search.score_measure(
        made / "scored", made / "clips", made / "scores", candidates="lcha,ssa", steps=(1, 2), batch=4, samples=8
    )
    return made


def by_scores(made: Path, **rest: Any) -> str:
    options = {"draws": 2, "scores": made / "scores", "weights": made / "scored", **rest}
    return f"layout_search[{','.join(f'{name}={value}' for name, value in options.items() if value)}]"


def test_the_blocks_of_a_score_are_where_it_begins(scored: Path, tmp_path: Path) -> None:
    engine = engine_of(scored, tmp_path / "run", trainer=by_scores(scored))
    net = MaskedSupernet(Supernet(SIZES, velocity="residual"))
    net.load_state_dict(load_file(tmp_path / "run/supernet/model.safetensors"))
    model, weights = S2DiT.from_pretrained(scored / "scored").state_dict(), net.supernet.state_dict()
    files = {
        (layer, label): load_file(scored / f"scores/blocks/{layer:03}-1.{label}.safetensors")
        for layer in range(4)
        for label in ("lcha", "ssa")
    }
    for name, tensor in weights.items():
        part, _, rest = name.partition(".")
        if part in ("stem", "head"):
            assert torch.equal(tensor, model[name]), name
        elif part in ("high", "low"):
            layer, _, rest = rest.partition(".")
            assert torch.equal(tensor, files[int(layer), {"high": "lcha", "low": "ssa"}[part]][f"layers.0.{rest}"]), (
                name
            )
        else:
            assert torch.equal(tensor, torch.stack([files[layer, "ssa"][name] for layer in range(4)]).mean(0)), name
    assert not net.leaning_M.any()
    assert engine.run.plan is not None


def test_a_run_that_begins_with_scores_names_them(scored: Path, tmp_path: Path) -> None:
    settings = asked(scored, trainer=by_scores(scored), optimizer__steps=1, judge__strips=0)
    s2search.train(out=tmp_path / "run", settings=settings)
    digest = open_score(scored / "scores/score.json").digest
    assert (
        f"begun with the blocks of the score {digest[:19]}"
        in Plan.load(tmp_path / "run/plan.json").provenance.score_statement
    )
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["digests"]["scores"] == digest
    assert record["digests"]["scored"] == S2DiT.from_pretrained(scored / "scored").weights_digest()


def test_the_switches_of_several_blocks_become_their_mean() -> None:
    found = mean_switches([{"down.a": torch.zeros(2)}, {}, {"down.a": torch.full((2,), 3.0)}])
    assert found.keys() == {"down.a"}
    assert torch.equal(found["down.a"], torch.full((2,), 1.5))


# Bad input


def plan_file(folder: Path, **asked: Any) -> str:
    s2search.plan(PHONE, **{"depth": 4, "budget": "41ms", **asked}).save(folder / "other.json")
    return str(folder / "other.json")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model__plan": ""}, "model.plan is not set; set it to a file that `s2search plan --out` wrote"),
        (
            {"plan": {"candidates": "lcha,kv_compressed,ssa"}},
            "the plan chooses among lcha, kv_compressed, ssa; one cand",
        ),
        ({"plan": {"candidates": "lcha"}, "plan_budget": "70ms"}, "the plan chooses among lcha; one candidate of"),
        ({"plan": {"budget": "1s"}}, "the plan's layers are all alike, L4, and there is no other layout"),
        ({"plan": {"layout": "L3S"}}, "the plan's layout L3S does not keep its own budgets"),
        ({"plan": {"depth": 6}}, "the plan has 6 layers and the preset"),
        ({"trainer": "layout_search[draws=0]"}, "draws=0; 1 to 64"),
        ({"trainer": "layout_search[coolest=2]"}, "temperature=1, coolest=2, reach=20; numbers above 0, the coolest"),
        ({"trainer": "layout_search[reach=0]"}, "reach=0; numbers above 0"),
        ({"trainer": "layout_search[shift=0]"}, "shift=0"),
        ({"trainer": "layout_search[draw=2]"}, "'draw'"),
        ({"trainer": "layout_search[scores=x]"}, "the option scores is given without weights"),
        ({"trainer": "layout_search[weights=x]"}, "the option weights is given without scores"),
        ({"trainer": "layout_search[table=nowhere]"}, "nowhere"),
        ({"trainer": "layout_search[scores=x,weights=nowhere]"}, "nowhere"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bad_input_is_one_line_before_anything_is_written(
    made: Path, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    changes = dict(changes)
    if plan := changes.pop("plan", None):
        budget = {"budget": changes.pop("plan_budget")} if "plan_budget" in changes else {}
        changes["model__plan"] = plan_file(tmp_path, **plan, **budget)
    with pytest.raises(S2SearchError) as error:
        s2search.train(out=tmp_path / "run", settings=asked(made, **changes))
    assert problem in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_table_that_is_no_longer_the_plans_is_refused_and_a_folder_of_its_own_serves(
    made: Path, tmp_path: Path
) -> None:
    dataclasses.replace(with_switches(), name="mine").save(tmp_path / "mine")
    s2search.plan(tmp_path / "mine", depth=4, budget="60ms", count="lcha=2").save(tmp_path / "plan.json")
    changes = {"model__plan": str(tmp_path / "plan.json"), "optimizer__steps": 1, "judge__strips": 0}
    with pytest.raises(S2SearchError, match="from the table 'mine', which is not installed; name its folder"):
        engine_of(made, tmp_path / "run", **changes)
    engine_of(made, tmp_path / "run", **changes, trainer=f"layout_search[table={tmp_path / 'mine'}]").train()
    assert Plan.load(tmp_path / "run/plan.json").provenance.table == "mine"


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        ("other weights", "was measured on the weights sha256:"),
        ("a block is missing", r"the block '.*002-1\.ssa\.safetensors' cannot be read: No such file"),
        ("other sizes", "is not of the sizes that are asked: feed_forward is 32 there and 24 here"),
        ("no scores", r"score\.json' cannot be read"),
    ],
)
def test_scores_that_do_not_belong_are_refused(scored: Path, tmp_path: Path, spoil: str, problem: str) -> None:
    for name in ("scores", "scored", "nano.toml"):
        copy = shutil.copytree if (scored / name).is_dir() else shutil.copy
        copy(scored / name, tmp_path / name)
    if spoil == "other weights":
        model = S2DiT.from_pretrained(tmp_path / "scored")
        with torch.no_grad():
            next(model.parameters()).add_(1.0)
        model.save_pretrained(tmp_path / "scored")
    elif spoil == "a block is missing":
        (tmp_path / "scores/blocks/002-1.ssa.safetensors").unlink()
    elif spoil == "other sizes":
        (tmp_path / "nano.toml").write_text(
            (scored / "nano.toml").read_text().replace("feed_forward = 32", "feed_forward = 24")
        )
    else:
        (tmp_path / "scores/score.json").unlink()
    changes = {"trainer": by_scores(tmp_path), "model__preset": str(tmp_path / "nano.toml")}
    with pytest.raises(S2SearchError, match=problem) as error:
        s2search.train(out=tmp_path / "run", settings=asked(scored, **changes))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()

import dataclasses
import json
import time

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from s2search.cost import Budget
from s2search.errors import CheckError, InputError, UnknownNameError
from s2search.latency.lookup import Lookup
from s2search.network.config import ModelConfig
from s2search.network.network import S2DiT, realize
from s2search.planner.find import find
from s2search.planner.plan import Plan
from s2search.planner.request import Request
from s2search.preset import Preset
from s2search.score.published import Published
from s2search.solver.dynamic import Dynamic
from s2search.space import Space
from s2search.tables.table import open_table


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return S2DiT.from_preset(Preset.named("s2dit-tiny")).eval()


@pytest.fixture(scope="module")
def plan():
    table = open_table("iphone-16-pro-max")
    request = Request(
        table=table,
        scope=table.scope("stream"),
        space=Space.parse("lcha,ssa", depth=28),
        latency_model=Lookup(),
        score=Published(),
        budgets=(Budget.parse("260ms"),),
    )
    return find(request, Dynamic())


def test_a_config_of_before_has_its_digest_and_the_papers_head():
    """Of the schema's first files: written without what came later."""
    old = {"schema": "s2search.model/1", "layout": ["lcha", "ssa"] * 4, "plan_digest": None, "text_widths": {}}
    old["preset"] = dataclasses.asdict(Preset.named("s2dit-tiny"))
    config = msgspec.convert(old, ModelConfig)
    assert (config.head_skip, config.velocity, config.latent_channels) == (False, "plain", 16)
    assert config.digest == "sha256:adf2bf6531d92e91a43ae2520510dbcfbe83ef581d0c1e856431c8f82b10ee62"
    assert ModelConfig(preset=config.preset, layout=config.layout).digest == config.digest  # of a file or made here
    today = ModelConfig.new(config.preset, config.layout)
    assert (today.head_skip, today.velocity) == (True, "plain")
    changes = {"head_skip": True}, {"velocity": "residual"}, {"latent_channels": 4}
    digests = {dataclasses.replace(config, **change).digest for change in changes}
    assert len({config.digest, today.digest} | digests) == 4


def read(model, grid=(9, 16), frames=3):
    generator = torch.Generator().manual_seed(3)
    preset = model.config.preset
    latents = torch.randn(1, 16, frames, 2 * grid[0], 2 * grid[1], generator=generator)
    text = torch.randn(1, preset.text_tokens, preset.text_channels, generator=generator)
    with torch.no_grad():
        return model(latents, torch.full((1, 1), 0.5), text)


@pytest.mark.parametrize("channels", [4, 3])
def test_a_model_of_fewer_latent_channels_is_saved_and_says_how_large_it_is(channels, tmp_path):
    model = S2DiT.from_preset(Preset.named("s2dit-tiny"), latent_channels=channels).eval()
    model.save_pretrained(tmp_path)
    again = S2DiT.from_pretrained(tmp_path)
    assert again.config == model.config
    shape = model.config.preset.shape("16x16", "stream")
    assert sum(part.parameters(shape).count for part in model.config.parts.values()) == model.parameter_count
    text = torch.zeros(1, model.config.preset.text_tokens, model.config.preset.text_channels)
    latents = torch.randn(1, channels, 3, 4, 8)
    with torch.no_grad():
        assert torch.equal(again(latents, torch.ones(1, 1), text), model(latents, torch.ones(1, 1), text))
        assert model(latents, torch.ones(1, 1), text).shape == latents.shape


def test_the_published_plan_has_1_82_billion_parameters_within_3_percent(plan):
    start = time.process_time()
    with torch.device("meta"):
        model = realize(plan, Preset.named("s2dit-1.8b"))
    assert time.process_time() - start < 2  # machines are shared
    assert plan.counts == {"lcha": 12, "ssa": 16}
    assert abs(model.parameter_count / 1.82e9 - 1) < 0.03
    assert model.config.layout == plan.layout
    assert model.config.plan_digest == plan.digest
    assert not [parameter for parameter in model.parameters() if parameter.device.type != "meta"]


def test_a_preset_without_a_plan_has_the_published_shares():
    with torch.device("meta"):
        model = S2DiT.from_preset(Preset.named("s2dit-1.8b"))
    assert (model.config.layout.count("lcha"), model.config.layout.count("ssa")) == (12, 16)


def test_a_plan_of_another_depth_is_refused(plan):
    with pytest.raises(InputError, match="the plan has 28 layers and the preset 's2dit-tiny' 8; plan with --depth 8"):
        realize(plan, Preset.named("s2dit-tiny"))


@pytest.mark.parametrize("layout", ["L8", "S8", "F8", "LLLLLLLL", "lcha*3,ssa*5", "KLSLSLFS", "lcha[gate=false],S*7"])
def test_any_layout_can_be_realized(layout):
    model = S2DiT.from_preset(Preset.named("s2dit-tiny"), layout)
    assert read(model).isfinite().all()
    assert hasattr(model, "down") == ("S" in layout or "ssa" in layout)


@pytest.mark.parametrize(("grid", "frames"), [((9, 16), 1), ((1, 1), 2), ((7, 5), 4), ((18, 32), 3)], ids=str)
def test_one_set_of_weights_serves_every_size(tiny, grid, frames):
    velocity = read(tiny, grid, frames)
    assert velocity.shape == (1, 16, frames, 2 * grid[0], 2 * grid[1])
    assert velocity.isfinite().all()


def test_tokens_of_another_width_are_projected_and_stand_beside_the_others(tmp_path):
    """As Gemma's beside CLIP's in training."""
    preset = Preset.named("s2dit-tiny")
    model = S2DiT(ModelConfig(preset=preset, layout=("ssa",) * 8, text_widths={"gemma": 40}))
    tokens = {"clip": torch.randn(1, 16, 64), "gemma": torch.randn(1, 9, 40)}
    text = model.read_text(tokens)
    assert text.shape == (1, 25, 64)
    assert torch.equal(text[:, :16], tokens["clip"])
    model(torch.randn(1, 16, 1, 4, 4), torch.full((1, 1), 0.5), text).square().sum().backward()
    assert model.text["gemma"].weight.grad.abs().sum() > 0
    model.save_pretrained(tmp_path)
    assert torch.equal(S2DiT.from_pretrained(tmp_path).read_text(tokens), text)
    with pytest.raises(InputError, match="tokens of 'gemma' have 64 channels, and the model reads 40 of it"):
        model.read_text({"gemma": tokens["clip"]})


def test_gradients_reach_every_parameter(tiny):
    model = S2DiT.from_preset(Preset.named("s2dit-tiny"))
    model(torch.randn(1, 16, 2, 6, 6), torch.full((1, 1), 0.5), torch.randn(1, 16, 64)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_saved_model_is_loaded_equal(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert torch.equal(read(S2DiT.from_pretrained(tmp_path)), read(tiny))
    assert S2DiT.from_pretrained(tmp_path, dtype=torch.bfloat16).head.patch.weight.dtype == torch.bfloat16


@pytest.fixture
def saved(plan, tmp_path):
    preset = Preset(name="thin", depth=28, channels=8, heads=2, feed_forward=8, text_channels=4, text_tokens=2)
    realize(plan, preset).save_pretrained(tmp_path)
    return tmp_path


def test_a_model_is_saved_with_its_plan(plan, saved):
    model = S2DiT.from_pretrained(saved, plan=plan)
    assert model.plan == Plan.load(saved / "plan.json") == plan
    model.save_pretrained(saved)
    assert S2DiT.from_pretrained(saved).plan == plan


def test_weights_of_another_plan_are_refused_by_digest(plan, saved):
    other = dataclasses.replace(plan, score=plan.score - 1e-9)
    with pytest.raises(CheckError, match=r"belong to the plan sha256:.*not to sha256:"):
        S2DiT.from_pretrained(saved, plan=other)
    other.save(saved / "plan.json")
    with pytest.raises(CheckError, match="and the model was realized from"):
        S2DiT.from_pretrained(saved)


def test_weights_beside_another_config_are_refused_by_digest(tiny, tmp_path):
    tiny.save_pretrained(tmp_path / "one")
    S2DiT.from_preset(Preset.named("s2dit-tiny"), "L4S4").save_pretrained(tmp_path / "two")
    (tmp_path / "two/model.safetensors").write_bytes((tmp_path / "one/model.safetensors").read_bytes())
    with pytest.raises(CheckError, match="and the config beside them is"):
        S2DiT.from_pretrained(tmp_path / "two")


def harm_tensor(folder, change):
    tensors = load_file(folder / "model.safetensors")
    digest = S2DiT.from_pretrained(folder).config.digest
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"s2search.model": digest})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda t: t.pop("stem.patch.weight"), "lack 'stem.patch.weight'"),
        (lambda t: t.update(extra=torch.zeros(1)), "have the unknown 'extra'"),
        (
            lambda t: t.update({"stem.patch.bias": torch.zeros(3)}),
            r"'stem.patch.bias' .* has the shape \(3,\), not \(64,\)",
        ),
    ],
    ids=["missing", "unknown", "shape"],
)
def test_weights_that_do_not_fit_name_the_tensor(tiny, tmp_path, change, line):
    tiny.save_pretrained(tmp_path)
    harm_tensor(tmp_path, change)
    with pytest.raises(InputError, match=line):
        S2DiT.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_harmed_and_missing_files_give_one_line(tiny, tmp_path, name):
    tiny.save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match=name):
        S2DiT.from_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=name):
        S2DiT.from_pretrained(tmp_path)


def test_a_preset_comes_from_toml(tmp_path):
    path = tmp_path / "mid.toml"
    path.write_text('depth = 6\nchannels = 32\nheads = 4\nfeed_forward = 64\ntext_channels = 8\nlayout = "L2S2L2"\n')
    preset = Preset.named(str(path))
    assert (preset.name, preset.depth, preset.text_tokens) == ("mid", 6, 77)
    assert S2DiT.from_preset(preset).config.layout == ("lcha", "lcha", "ssa", "ssa", "lcha", "lcha")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("depth = 6\nchannels = 32\nheads = 5\nfeed_forward = 64", "32 channels do not divide into 5 heads"),
        ("depth = 0\nchannels = 32\nheads = 4\nfeed_forward = 64", "depth of the preset 'bad' is 0"),
        ("depth = 6\nchanels = 32", "did you mean 'channels'"),
        ("depth = 'six'", "is not a preset"),
        ("depth = ", "is not a preset"),
    ],
)
def test_a_bad_preset_gives_one_line(tmp_path, text, line):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises((InputError, UnknownNameError), match=line):
        Preset.named(str(path))


def test_a_config_is_plain_json(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["schema"] == "s2search.model/1"
    assert config["layout"] == list(tiny.config.layout)

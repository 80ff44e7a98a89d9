"""wan22: a tiny random pipeline of two experts, saved by diffusers; the pipeline's own steps are the reference."""

from __future__ import annotations

import gc
import json
import pickle
import shutil
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from s2search import data_make, registry
from s2search.codec.wan import Wan
from s2search.errors import InputError
from s2search.network.flow import clean, renoise
from s2search.testing.teachers import check_teacher
from s2search.training.cache.inspect import asked_again
from s2search.training.cache.inspect import check as check_cache
from s2search.training.cache.make import heading_of, make
from s2search.training.cache.records import TeacherCache
from s2search.training.parallel import ALONE
from s2search.training.teachers.base import Expert, asked
from s2search.training.teachers.wan22 import NEGATIVE, Wan22

pytest.importorskip("diffusers", reason="the extra s2search[video] is not installed")
pytest.importorskip("transformers", reason="the extra s2search[video] is not installed")

CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"
WORDS = [
    "a",
    "red",
    "box",
    "blue",
    "disc",
    "moves",
    "left",
    "right",
    "slowly",
    "very",
    "long",
    "prompt",
    "about",
    "and",
]
VOCABULARY = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("▁", -3.0)]
VOCABULARY += [(f"▁{word}", -2.0) for word in WORDS] + [(letter, -6.0) for letter in "abcdefghijklmnopqrstuvwxyz,"]
SIZES = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2, "ffn_dim": 32, "freq_dim": 16}
PROMPT, AWAY = "A  red box &amp; a zebra\n moves ", "blue disc, slowly"


@pytest.fixture(autouse=True, scope="module")
def _alone(one_thread: None) -> None:
    """Every test here."""


def transformer(seed: int, **options: Any) -> Any:
    from diffusers import WanTransformer3DModel

    torch.manual_seed(seed)
    model = WanTransformer3DModel(**SIZES, text_dim=32, **options)
    with torch.no_grad():
        for parameter in model.parameters():  # else nothing but the last layer would tell levels and prompts apart
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def pipeline() -> Any:
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline
    from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    text = UMT5Config(vocab_size=len(VOCABULARY), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    pipe = WanPipeline(
        tokenizer=T5TokenizerFast(vocab=VOCABULARY, extra_ids=0),
        text_encoder=UMT5EncoderModel(text).eval(),
        vae=AutoencoderKLWan(base_dim=4, num_res_blocks=1).eval(),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=12.0),
        transformer=transformer(1),
        transformer_2=transformer(2),
        boundary_ratio=0.875,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def folder(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wan22") / "pipeline"
    pipeline.save_pretrained(path)
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Wan22:
    return Wan22(folder=str(folder), negative=AWAY)


def euler_at(sigmas: list[float]) -> Any:
    """Return a sampler that stops where we say: the pipeline itself has no way to ask for a step at 875."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    usual = scheduler.set_timesteps
    scheduler.set_timesteps = lambda steps, device: usual(sigmas=sigmas, device=device)
    return scheduler


def steps_of(pipeline: Any, scheduler: Any, steps: int) -> list[tuple[Tensor, float, Tensor]]:
    """Return latents, time and guided prediction of every step that the pipeline makes."""
    seen, usual, own = [], scheduler.step, pipeline.scheduler

    def step(prediction: Tensor, t: Tensor, latents: Tensor, **options: Any) -> Any:
        seen.append((latents.clone(), float(t), prediction.clone()))
        return usual(prediction, t, latents, **options)

    scheduler.step = step
    pipeline.scheduler = scheduler
    try:
        pipeline(
            PROMPT,
            AWAY,
            height=64,
            width=48,
            num_frames=9,
            num_inference_steps=steps,
            guidance_scale=4.0,
            guidance_scale_2=3.0,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        )
    finally:
        pipeline.scheduler, scheduler.step = own, usual
    return seen


def answers_of(teacher: Wan22, steps: list[tuple[Tensor, float, Tensor]], swapped: bool = False) -> list[Tensor]:
    """Return what the teacher says where the pipeline was asked."""
    with teacher.reading(CPU) as read:
        text, negative = read([PROMPT, teacher.negative])
    found = []
    low, high = teacher.experts
    for x_BCTYX, t, _ in steps:
        s_B = torch.tensor([t / 1000], dtype=torch.float32)
        expert, other = (high, low) if high.answers(float(s_B)) else (low, high)
        with teacher.answering(other if swapped else expert, CPU, torch.float32) as velocity:
            found.append(asked(velocity, x_BCTYX, s_B, [text], negative, expert.guidance))
    return found


def furthest(found: list[Tensor], steps: list[tuple[Tensor, float, Tensor]]) -> list[float]:
    return [
        float((own - theirs).abs().max() / theirs.abs().max()) for own, (_, _, theirs) in zip(found, steps, strict=True)
    ]


def test_it_answers_as_the_pipeline_at_every_step_of_its_own_sampler(teacher: Wan22, pipeline: Any) -> None:
    steps = steps_of(pipeline, type(pipeline.scheduler).from_config(pipeline.scheduler.config), 6)
    times = [t for _, t, _ in steps]
    assert len(times) == 6
    assert max(times) > 990 > 875 > min(times), "a side of the change was not tried"
    assert max(furthest(answers_of(teacher, steps), steps)) <= 1e-6


def test_at_the_change_itself_the_upper_expert_answers_and_below_it_the_lower(teacher: Wan22, pipeline: Any) -> None:
    steps = steps_of(pipeline, euler_at([0.99, 0.9371, 0.875, 0.8749, 0.6, 0.2]), 6)
    assert [round(t, 1) for _, t, _ in steps] == [990.0, 937.1, 875.0, 874.9, 600.0, 200.0]
    assert max(furthest(answers_of(teacher, steps), steps)) <= 2e-6
    assert min(furthest(answers_of(teacher, steps, swapped=True), steps)) > 0.01, "the experts are as good as one"


def test_its_velocity_is_noise_minus_latents_in_the_pipelines_own_sampler(pipeline: Any) -> None:
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(6)
    z_BCTYX, eps_BCTYX = torch.randn(2, 1, 16, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    for number in range(5):
        scheduler._step_index = number
        s = float(scheduler.sigmas[number])
        x_BCTYX, v_BCTYX = renoise(z_BCTYX, s, eps_BCTYX), eps_BCTYX - z_BCTYX
        theirs_BCTYX = scheduler.convert_model_output(v_BCTYX, sample=x_BCTYX)
        assert torch.allclose(theirs_BCTYX, z_BCTYX, atol=1e-5)
        assert torch.allclose(theirs_BCTYX, clean(x_BCTYX, s, v_BCTYX), atol=1e-6)


def test_it_keeps_the_contract_of_teachers(teacher: Wan22) -> None:
    check_teacher(teacher)


def test_wan_2_1_has_one_expert_and_it_answers_everywhere(pipeline: Any, copy: Path) -> None:
    changed(copy / "model_index.json", boundary_ratio=None, transformer_2=[None, None])
    shutil.rmtree(copy / "transformer_2")
    teacher = Wan22(folder=str(copy), guidance=5.0, shift=3.0)
    assert teacher.experts == (Expert(name="transformer", guidance=5.0),)
    check_teacher(teacher)


def test_it_is_found_by_name_and_says_what_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("wan22", "s2search.training.teachers.wan22:Wan22", "s2search.teachers")
    monkeypatch.setitem(registry.installed("teachers"), "wan22", entry)
    teacher = registry.create("teachers", f"wan22[folder={folder},guidance=3.5]")
    low, high = teacher.experts
    assert (low.name, low.low, low.high, low.guidance) == ("transformer_2", 0.0, 0.875, 3.0)
    assert (high.name, high.low, high.high, high.guidance) == ("transformer", 0.875, 1.0, 3.5)
    assert (teacher.shift, teacher.negative, teacher.latent_channels) == (12.0, NEGATIVE, 16)
    assert teacher.revision.startswith("saved by diffusers 0.")


def test_its_latents_are_those_of_its_own_autoencoder_however_it_is_named(teacher: Wan22, folder: Path) -> None:
    assert teacher.codec_digest == Wan(folder=str(folder)).digest == Wan(folder=str(folder / "vae")).digest


def test_prompts_are_cut_at_512_tokens_and_come_without_padding(teacher: Wan22, pipeline: Any) -> None:
    prompts = ["", PROMPT, "box " * 600, "你好"]
    with teacher.reading(CPU) as read:
        texts = read(prompts)
    with torch.no_grad():
        theirs_BSE = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False, max_sequence_length=512)[0]
    assert len(texts[0]) == 1, "the mark of the end"
    assert len(texts[2]) == 512
    for text_SE, their_SE in zip(texts, theirs_BSE, strict=True):
        assert torch.allclose(text_SE, their_SE[: len(text_SE)], atol=1e-6)
        assert not their_SE[len(text_SE) :].any()


def test_the_tokenizer_is_what_its_file_says(copy: Path) -> None:
    """UMT5's spells unknown letters in bytes; T5's class, which pipelines name, would drop that and read <unk>."""
    file = copy / "tokenizer/tokenizer.json"
    plain = json.loads(file.read_text())
    plain["model"]["byte_fallback"] = True
    plain["model"]["vocab"] += [[f"<0x{byte:02X}>", -8.0] for byte in range(256)]
    file.write_text(json.dumps(plain))
    embeddings = load_file(copy / "text_encoder/model.safetensors")
    name = next(name for name, tensor in embeddings.items() if tensor.shape == (len(VOCABULARY), 32))
    embeddings[name] = torch.randn(len(VOCABULARY) + 256, 32)
    save_file(embeddings, copy / "text_encoder/model.safetensors", {"format": "pt"})
    changed(copy / "text_encoder/config.json", vocab_size=len(VOCABULARY) + 256)
    with Wan22(folder=str(copy)).reading(CPU) as read:
        (text,) = read(["你"])
    assert len(text) == 1 + 3 + 1, "a space, three bytes, and the mark of the end"


def test_a_text_encoder_that_says_it_ties_nothing_is_tied_as_umt5_is(teacher: Wan22, copy: Path) -> None:
    """Google's config says tie_word_embeddings false, and the checkpoint has the vectors once."""
    changed(copy / "text_encoder/config.json", tie_word_embeddings=False)
    with teacher.reading(CPU) as read, Wan22(folder=str(copy)).reading(CPU) as other:
        assert torch.equal(read([PROMPT])[0], other([PROMPT])[0])


def test_in_bfloat16_time_stays_float32_and_so_does_what_diffusers_keeps(teacher: Wan22) -> None:
    times: list[Tensor] = []
    x_BCTYX = torch.randn(1, 16, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    s_B, text = torch.tensor([0.9371]), torch.randn(4, 32, generator=torch.Generator().manual_seed(1))
    answers = {}
    for dtype in (torch.float32, torch.bfloat16):
        with teacher.answering(teacher.experts[1], CPU, dtype) as velocity:
            (model,) = (one for one in gc.get_objects() if type(one).__name__ == "WanTransformer3DModel" and kept(one))
            model.condition_embedder.register_forward_pre_hook(lambda _, inputs: times.append(inputs[0]))
            kinds = {name: tensor.dtype for name, tensor in model.state_dict().items()}
            answers[dtype] = velocity(x_BCTYX, s_B, [text])
            del model
        exact = {name for name, kind in kinds.items() if kind == torch.float32}
        if dtype == torch.bfloat16:
            assert {"scale_shift_table", "blocks.0.norm2.weight", "condition_embedder.time_embedder.linear_1.bias"} <= (
                exact
            )
            assert "blocks.0.attn1.norm_q.weight" not in exact
            assert kinds["blocks.0.ffn.net.2.weight"] == torch.bfloat16
    assert [time.dtype for time in times] == [torch.float32] * 2
    assert all(abs(float(time) - 937.1) < 1e-4 for time in times), "bfloat16 would have made 936 of it"
    assert answers[torch.bfloat16].dtype == torch.float32
    apart = answers[torch.bfloat16] - answers[torch.float32]
    assert 0 < apart.abs().mean() < 0.05 * answers[torch.float32].abs().mean()


def kept(model: Any) -> bool:
    """Return whether a model is one that a teacher loaded, and not the pipeline's."""
    return not any(parameter.requires_grad for parameter in model.parameters())


def test_what_was_held_is_gone_when_it_is_left_even_if_its_function_is_kept(teacher: Wan22) -> None:
    # By its type: `isinstance` asks strange objects for their class, and some warn.
    before = {id(one) for one in gc.get_objects() if issubclass(type(one), torch.nn.Module)}
    with teacher.reading(CPU) as read, teacher.answering(teacher.experts[0], CPU, torch.float32) as velocity:
        held = [one for one in gc.get_objects() if issubclass(type(one), torch.nn.Module) and id(one) not in before]
        gone = [weakref.ref(one) for one in held]
        assert len(gone) > 20
        del held
    assert callable(read)
    assert callable(velocity)
    assert not [one() for one in gone if one() is not None]


def test_parameters_are_counted_from_headers(teacher: Wan22, pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "__init__", None)
    monkeypatch.setattr("safetensors.torch.load_file", None)
    assert teacher.sizes() == {
        "transformer": sum(one.numel() for one in pipeline.transformer.parameters()),
        "transformer_2": sum(one.numel() for one in pipeline.transformer_2.parameters()),
        "text_encoder": sum(one.numel() for one in pipeline.text_encoder.parameters()),
    }


def test_hashes_are_of_all_that_answers_depend_on_and_of_nothing_else(teacher: Wan22, copy: Path) -> None:
    before = Wan22(folder=str(copy))
    assert before.files == teacher.files
    assert before.files.keys() == {
        "model_index.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        *(f"{part}/{file}" for part in ("transformer", "transformer_2") for file in ("config.json", WEIGHTS)),
    }
    changed(copy / "scheduler/scheduler_config.json", flow_shift=3.0)
    assert Wan22(folder=str(copy)).files == before.files
    with (copy / "tokenizer/tokenizer_config.json").open("a") as file:
        file.write("\n")
    after = Wan22(folder=str(copy))
    assert [name for name in after.files if after.files[name] != before.files[name]] == [
        "tokenizer/tokenizer_config.json"
    ]
    assert after.encoder != before.encoder == teacher.encoder


def test_what_mends_letters_is_named_since_tokens_depend_on_it(teacher: Wan22, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2search.training.teachers.wan22.metadata.version", lambda name: "6.3.1")
    assert teacher.encoder.endswith("512 tokens at most, ftfy 6.3.1")


def test_weights_in_shards_give_the_same_answers(pipeline: Any, teacher: Wan22, copy: Path) -> None:
    for part in ("transformer", "transformer_2", "text_encoder"):
        shutil.rmtree(copy / part)
        getattr(pipeline, part).save_pretrained(copy / part, max_shard_size="20KB")
    sharded = Wan22(folder=str(copy))
    assert sharded.sizes() == teacher.sizes()
    assert {name for name in sharded.files if name.endswith(".index.json")} == {
        f"transformer/{WEIGHTS}.index.json",
        f"transformer_2/{WEIGHTS}.index.json",
        "text_encoder/model.safetensors.index.json",
    }
    x_BCTYX, s_B = torch.ones(1, 16, 1, 2, 2), torch.tensor([0.5])
    found = []
    for one in (teacher, sharded):
        with one.reading(CPU) as read:
            (text,) = read([PROMPT])
        with one.answering(one.experts[0], CPU, torch.float32) as velocity:
            found.append(velocity(x_BCTYX, s_B, [text]))
    assert torch.equal(*found)


def test_a_cache_of_its_answers_and_the_answers_again(teacher: Wan22, folder: Path, tmp_path: Path) -> None:
    clips = data_make(
        "shapes[count=4]", tmp_path / "clips", video="48x32", frames=5, clips=1, held_out=0.25,
        codec=f"wan[folder={folder}]",
    )  # fmt: skip
    heading = heading_of(teacher, clips, levels=4, shift=None, seed=0, computed="float32", stored="float32")
    assert heading.shift == 12.0
    make(teacher, clips, heading, tmp_path / "cache")
    assert not list(check_cache(tmp_path / "cache", clips))
    cache = TeacherCache.load(tmp_path / "cache", clips)
    records = [*cache.of("train"), *cache.of("held-out")]
    assert {record.expert for record in records if record.s >= 0.875} == {"transformer"}
    assert {record.expert for record in records if record.s < 0.875} == {"transformer_2"}
    found = dict(asked_again(tmp_path / "cache", clips, teacher, 8, ALONE))
    assert len(found) == 8
    assert min(found.values()) >= 80


def test_data_of_another_autoencoder_are_refused(teacher: Wan22, tmp_path: Path) -> None:
    clips = data_make("shapes[count=4]", tmp_path / "clips", video="48x32", frames=5, clips=1, held_out=0.25)
    with pytest.raises(InputError, match=r"those of dct.*with the autoencoder of the teacher's own folder"):
        heading_of(teacher, clips, levels=4, shift=None, seed=0, computed="float32", stored="float32")


def test_latents_of_half_a_patch_are_refused(teacher: Wan22) -> None:
    with (
        teacher.answering(teacher.experts[0], CPU, torch.float32) as velocity,
        pytest.raises(InputError, match=r"3x5x6 .* are no whole patches; multiples of 1x2x2; .* multiples of 16"),
    ):
        velocity(torch.zeros(1, 16, 3, 5, 6), torch.tensor([0.5]), [torch.zeros(1, 32)])


def changed(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def unpickled_as(copy: Path, part: str) -> None:
    (copy / part / WEIGHTS).unlink()
    (copy / part / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")


def sharded_as(copy: Path, name: object) -> None:
    shutil.move(copy / "transformer" / WEIGHTS, copy.parent / "outside.safetensors")
    index = {"weight_map": {"proj_out.bias": name}}
    (copy / "transformer" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no pipeline": (lambda copy: (copy / "model_index.json").unlink(), "is no pipeline: it has no model_index.json"),
    "no JSON": (lambda copy: (copy / "model_index.json").write_text("{"), "cannot be read as JSON"),
    "pictures to video": (
        lambda copy: changed(copy / "model_index.json", _class_name="WanImageToVideoPipeline"),
        "holds a 'WanImageToVideoPipeline'; WanPipeline; name what WanPipeline.save_pretrained wrote",
    ),
    "5B": (
        lambda copy: changed(copy / "model_index.json", expand_timesteps=True),
        "has expand_timesteps: a noise level for every token",
    ),
    "a change at 875": (
        lambda copy: changed(copy / "model_index.json", boundary_ratio=875),
        "changes experts at the noise level 875; between 0 and 1, or null for one expert; correct boundary_ratio",
    ),
    "one expert of two": (
        lambda copy: changed(copy / "model_index.json", transformer_2=[None, None]),
        r"names \[None, None\] as 'transformer_2', and its boundary_ratio 0.875 asks for two experts",
    ),
    "an expert's folder": (
        lambda copy: shutil.rmtree(copy / "transformer_2"),
        "lacks transformer_2/config.json; .*; copy the whole folder",
    ),
    "an expert's weights": (
        lambda copy: (copy / "transformer_2" / WEIGHTS).unlink(),
        f"transformer_2' has no {WEIGHTS}; copy the whole folder",
    ),
    "foreign code": (
        lambda copy: changed(copy / "model_index.json", transformer=["my_transformer", "WanTransformer3DModel"]),
        r"names \['my_transformer', .* as 'transformer'; diffusers WanTransformer3DModel",
    ),
    "another text encoder": (
        lambda copy: changed(copy / "model_index.json", text_encoder=["transformers", "T5EncoderModel"]),
        "as 'text_encoder'; transformers UMT5EncoderModel",
    ),
    "no autoencoder": (lambda copy: shutil.rmtree(copy / "vae"), "lacks vae/config.json"),
    "no tokenizer": (lambda copy: shutil.rmtree(copy / "tokenizer"), "lacks tokenizer/tokenizer.json"),
    "wide tokens": (
        lambda copy: changed(copy / "transformer_2/config.json", text_dim=4096),
        "transformer_2/config.json' reads tokens of width 4096, and the text encoder gives 32; take both from one",
    ),
    "channels in": (
        lambda copy: changed(copy / "transformer_2/config.json", in_channels=36),
        "transformer_2/config.json' takes 36 latent channels and gives 16; 16 and 16",
    ),
    "channels out": (
        lambda copy: changed(copy / "transformer/config.json", out_channels=48),
        "transformer/config.json' takes 16 latent channels and gives 48",
    ),
    "pictures": (lambda copy: changed(copy / "transformer/config.json", image_dim=1280), r"Expected `null`.*image_dim"),
    "quantised": (
        lambda copy: changed(copy / "transformer/config.json", quantization_config={"quant_method": "bitsandbytes"}),
        "unknown field `quantization_config`; the options of diffusers' WanTransformer3DModel, unquantised",
    ),
    "a million layers": (lambda copy: changed(copy / "transformer/config.json", num_layers=10**6), "`int` <= 1024"),
    "a pickle": (
        lambda copy: unpickled_as(copy, "transformer"),
        f"has no {WEIGHTS} but 'diffusion_pytorch_model.bin'; safetensors only: pickled weights can run code",
    ),
    "a pickled shard": (lambda copy: sharded_as(copy, "one.bin"), "names 'one.bin'; files that end in .safetensors"),
    "a shard that is gone": (
        lambda copy: sharded_as(copy, "one.safetensors"),
        "names 'one.safetensors', which is not there; copy the whole folder",
    ),
    "a shard elsewhere": (
        lambda copy: sharded_as(copy, "../outside.safetensors"),
        "names '../outside.safetensors', which leads elsewhere",
    ),
    "two sets of weights": (
        lambda copy: (copy / "transformer" / f"{WEIGHTS}.index.json").write_text("{}"),
        f"has {WEIGHTS} and an index beside it; delete one",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_folder_that_is_none_is_refused_in_one_line_before_anything_is_loaded(
    copy: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, words = BROKEN[name]
    damage(copy)
    for library in ("diffusers", "transformers"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=words) as caught:
        Wan22(folder=str(copy))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"guidance": 0.0}, r"the guidance of transformer is 0; 1 or more: .*; add 1 to a g of c \+ g \(c - u\)"),
        ({"guidance_2": float("nan")}, "the guidance of transformer_2 is nan; 1 or more"),
        ({"shift": 0.0}, "shift=0; above 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(folder: Path, options: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Wan22(folder=str(folder), **options)


def test_weights_that_do_not_fit_are_refused_not_made_up(copy: Path) -> None:
    file = copy / "transformer_2" / WEIGHTS
    weights = load_file(file)
    expert = Wan22(folder=str(copy)).experts[0]

    def line() -> str:
        with pytest.raises(InputError) as caught, Wan22(folder=str(copy)).answering(expert, CPU, torch.float32):
            pass
        (line,) = str(caught.value).splitlines()
        return line

    save_file({name: tensor for name, tensor in weights.items() if name != "proj_out.bias"}, file)
    assert "do not fit its config.json: 1, such as 'proj_out.bias' of no shape, not (64,)" in line()
    save_file(weights | {"proj_out.bias": torch.zeros(3)}, file)
    assert "'proj_out.bias' of (3,), not (64,)" in line()
    save_file(weights | {"more": torch.zeros(3)}, file)
    assert "'more' of (3,), not any" in line()
    file.write_bytes(pickle.dumps(weights))
    assert "cannot be read" in line()


def test_a_text_encoder_that_lacks_layers_is_refused(copy: Path) -> None:
    changed(copy / "text_encoder/config.json", num_layers=1)
    with (
        pytest.raises(InputError, match=r"has weights that do not fit its config.json .*encoder.block.1"),
        Wan22(folder=str(copy)).reading(CPU),
    ):
        pass


def test_nothing_asks_the_network_or_runs_code_of_the_folder(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    ran = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()"
    for part in ("text_encoder", "tokenizer", "transformer", "transformer_2"):
        (copy / part / "code.py").write_text(ran)
    for file in ("text_encoder/config.json", "tokenizer/tokenizer_config.json"):
        changed(copy / file, auto_map={"AutoModel": "code.Model", "AutoTokenizer": ["code.A", "code.B"]})
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    teacher = Wan22(folder=str(copy))
    with teacher.reading(CPU) as read, teacher.answering(teacher.experts[0], CPU, torch.float32):
        assert read([PROMPT])
    assert not list(copy.rglob("ran"))


def test_naming_it_imports_neither_torch_nor_diffusers(folder: Path) -> None:
    program = (
        f"import sys; from s2search.training.teachers.wan22 import Wan22; Wan22(folder={str(folder)!r})\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_blocks_that_come_and_go_answer_the_same_and_one_is_there_at_a_time(
    folder: Path, teacher: Wan22, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s2search.training.teachers import wan_folder

    guests: list[weakref.ref[Any]] = []  # memory, not tensors: what holds it may be another tensor of it
    most = 0

    def brought(tensor: Tensor, device: torch.device) -> Tensor:
        nonlocal most
        guest = tensor.numpy().copy()
        guests.append(weakref.ref(guest))
        most = max(most, sum(one() is not None for one in guests))
        return torch.from_numpy(guest)

    monkeypatch.setattr(wan_folder, "brought", brought)
    offloaded: Wan22 = registry.create("teachers", f"wan22[folder={folder},offload=true]")
    assert "offload" not in offloaded.options  # a cache goes on with it or without
    x, s, texts = torch.randn(2, 16, 3, 4, 4), torch.tensor([0.9, 0.95]), [torch.randn(3, 32), torch.randn(7, 32)]
    cpu, expert = torch.device("cpu"), teacher.experts[-1]
    with teacher.answering(expert, cpu, torch.float32) as velocity:
        wanted = velocity(x, s, texts)
    with offloaded.answering(expert, cpu, torch.float32) as velocity:
        for _ in range(2):
            assert torch.equal(velocity(x, s, texts), wanted)
        gc.collect()
        assert not any(one() is not None for one in guests)
    blocks = transformer(0).blocks
    weights = len(list(blocks[0].parameters()))
    assert len(guests) == 2 * len(blocks) * weights
    assert most <= weights

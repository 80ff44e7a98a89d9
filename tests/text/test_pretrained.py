"""A folder that is not what it should be is refused in one line, and nothing in it is unpickled or fetched."""

from __future__ import annotations

import json
import logging
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from s2search import registry
from s2search.errors import InputError, MissingExtraError
from s2search.text.clip import CLIP
from s2search.text.gemma import Gemma
from s2search.text.pretrained import PretrainedText

pytest.importorskip("transformers", reason="the extra video is not installed")
from tests.text.tiny import clip_model, gemma_model, save_clip_tokenizer, save_gemma_tokenizer

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    clip, gemma = tmp_path_factory.mktemp("clip"), tmp_path_factory.mktemp("gemma")
    clip_model().save_pretrained(clip)
    save_clip_tokenizer(clip)
    gemma_model().save_pretrained(gemma)
    save_gemma_tokenizer(gemma)
    return {"clip": clip, "gemma": gemma}


@pytest.fixture
def copied(whole: dict[str, Path], tmp_path: Path) -> Callable[[str], PretrainedText]:
    """A function from a name to an encoder whose folder may be harmed."""

    def copy(name: str) -> PretrainedText:
        folder = tmp_path / name
        shutil.copytree(whole[name], folder)
        return CLIP(folder=str(folder)) if name == "clip" else Gemma(folder=str(folder))

    return copy


def refusal(encoder: PretrainedText) -> str:
    with pytest.raises(InputError) as caught:
        encoder.load(CPU, torch.float32)
    line = str(caught.value)
    assert line.splitlines() == [line]
    assert line.startswith(f"{encoder.folder!r}, the folder of the text encoder {encoder.name!r}, ")
    assert line.endswith(f"; name a local copy of a model such as {encoder.example}")
    return line


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)


BOTH = pytest.mark.parametrize("name", ["clip", "gemma"])


@BOTH
def test_a_missing_folder_is_refused_before_anything_is_loaded(name: str, tmp_path: Path) -> None:
    encoder = registry.create("texts", f"{name}[folder={tmp_path / 'nowhere'}]")
    assert "is not a folder" in refusal(encoder)
    with pytest.raises(InputError, match="is not a folder"):
        encoder.channels  # noqa: B018


@BOTH
def test_a_plugin_without_a_folder_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"text encoder '{name}' needs the option 'folder'"):
        registry.create("texts", name)


def test_a_repository_on_the_hub_is_no_folder() -> None:
    assert "is not a folder" in refusal(CLIP(folder="openai/clip-vit-large-patch14"))


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_folder_without_a_readable_configuration_is_refused(
    copied: Callable[[str], PretrainedText], content: bytes | None
) -> None:
    encoder = copied("clip")
    config = Path(encoder.folder, "config.json")
    if content is None:
        config.unlink()
    else:
        config.write_bytes(content)
    assert "has no config.json that can be read" in refusal(encoder)


def test_another_model_is_refused(whole: dict[str, Path]) -> None:
    line = refusal(CLIP(folder=str(whole["gemma"])))
    assert "holds a model of type 'gemma3_text'; one of clip, clip_text_model;" in line
    line = refusal(Gemma(folder=str(whole["clip"])))
    assert "holds a model of type 'clip_text_model'; one of gemma3, gemma3_text;" in line


@BOTH
def test_pickled_weights_are_refused_and_not_opened(
    copied: Callable[[str], PretrainedText], name: str, tmp_path: Path
) -> None:
    encoder, mark = copied(name), tmp_path / "opened"
    Path(encoder.folder, "model.safetensors").unlink()
    for file in ("pytorch_model.bin", "model.bin", "model.pt"):
        Path(encoder.folder, file).write_bytes(pickle.dumps(Trap(mark)))
    assert "holds no model.safetensors; safetensors only: pickled weights can run code;" in refusal(encoder)
    assert not mark.exists()


@pytest.mark.parametrize("option", ["transformers_weights", "quantization_config"])
def test_a_configuration_that_points_elsewhere_is_refused(copied: Callable[[str], PretrainedText], option: str) -> None:
    encoder = copied("clip")
    config = Path(encoder.folder, "config.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), option: "pytorch_model.bin"}))
    assert f"has a config.json with {option!r}; plain weights in model.safetensors;" in refusal(encoder)


def test_an_adapter_of_a_model_that_lies_elsewhere_is_refused(copied: Callable[[str], PretrainedText]) -> None:
    encoder = copied("clip")
    Path(encoder.folder, "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "somewhere/else"}))
    assert "holds an adapter; plain weights in model.safetensors;" in refusal(encoder)


@BOTH
def test_a_weight_that_is_missing_is_not_left_random(copied: Callable[[str], PretrainedText], name: str) -> None:
    from safetensors.torch import load_file, save_file

    encoder = copied(name)
    file = Path(encoder.folder, "model.safetensors")
    weights = load_file(file)
    first = next(key for key in sorted(weights) if "layers.1." in key)
    save_file({key: weight for key, weight in weights.items() if key != first}, file, metadata={"format": "pt"})
    line = f"has weights that do not fit its config.json (1, such as {first.removeprefix('model.')});"
    assert line in refusal(encoder)


@BOTH
@pytest.mark.parametrize(
    ("option", "value", "weight"),
    [
        ("intermediate_size", 65, "layers.0.mlp"),
        ("num_hidden_layers", 1, "layers.1."),
        ("num_hidden_layers", 9, "layers."),
    ],
)
def test_weights_of_another_shape_or_depth_are_refused(
    copied: Callable[[str], PretrainedText], name: str, option: str, value: int, weight: str
) -> None:
    encoder = copied(name)
    config = Path(encoder.folder, "config.json")
    changed = {**json.loads(config.read_text()), option: value}
    if option == "num_hidden_layers" and name == "gemma":
        changed["layer_types"] = ["full_attention"] * value
    config.write_text(json.dumps(changed))
    line = refusal(encoder)
    assert "has weights that do not fit its config.json (" in line
    assert weight in line


@BOTH
@pytest.mark.parametrize("harm", ["cut", "bytes", "empty"])
def test_damaged_weights_are_refused(copied: Callable[[str], PretrainedText], name: str, harm: str) -> None:
    encoder = copied(name)
    file = Path(encoder.folder, "model.safetensors")
    content = file.read_bytes()
    file.write_bytes({"cut": content[:-100], "bytes": b"\x80\x04K\x01." * 100, "empty": b""}[harm])
    assert "holds weights that cannot be read" in refusal(encoder)


@pytest.mark.parametrize(
    ("name", "file", "allowed"),
    [
        ("clip", "vocab.json", "vocab.json and merges.txt or tokenizer.json"),
        ("clip", "merges.txt", "vocab.json and merges.txt or tokenizer.json"),
        ("gemma", "tokenizer.json", "tokenizer.json"),
    ],
)
def test_a_folder_without_a_tokenizer_is_refused(
    copied: Callable[[str], PretrainedText], name: str, file: str, allowed: str
) -> None:
    encoder = copied(name)
    Path(encoder.folder, file).unlink()
    assert f"holds no tokenizer; {allowed};" in refusal(encoder)


def test_a_damaged_tokenizer_is_refused(copied: Callable[[str], PretrainedText]) -> None:
    for name, file in (("clip", "vocab.json"), ("gemma", "tokenizer.json")):
        encoder = copied(name)
        Path(encoder.folder, file).write_text("{")
        assert "holds a tokenizer that cannot be read" in refusal(encoder)


def test_a_tokenizer_of_a_larger_model_is_refused_at_the_word_that_shows_it(
    copied: Callable[[str], PretrainedText],
) -> None:
    encoder = copied("clip")
    file = Path(encoder.folder, "vocab.json")
    vocabulary = json.loads(file.read_text(encoding="utf-8"))
    vocabulary["cat</w>"] = 518
    file.write_text(json.dumps(vocabulary), encoding="utf-8")
    loaded = encoder.load(CPU, torch.float32)
    loaded.encode(["a dog"])
    line = re.escape("the tokenizer gave token 518; the model has vectors for 0 to 517; put the tokenizer beside")
    with pytest.raises(InputError, match=line):
        loaded.encode(["a cat"])


@BOTH
def test_without_transformers_one_line_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, whole: dict[str, Path], name: str
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    encoder = registry.create("texts", f"{name}[folder={whole[name]}]")
    for ask in (lambda: encoder.channels, lambda: encoder.load(CPU, torch.float32)):
        with pytest.raises(MissingExtraError, match=r"^transformers is not installed; .* 's2search\[video\]'$"):
            ask()


@pytest.mark.slow
def test_loading_says_nothing_even_where_half_of_the_weights_is_left_out(tmp_path: Path) -> None:
    clip_model(pictures=True).save_pretrained(tmp_path)
    save_clip_tokenizer(tmp_path)
    program = (
        "import torch; from s2search.text.clip import CLIP\n"
        f"CLIP(folder={str(tmp_path)!r}).load(torch.device('cpu'), torch.float32).encode(['a cat'])"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_loading_leaves_logging_and_bars_as_they_were(whole: dict[str, Path]) -> None:
    from transformers import logging as bars

    before = logging.root.manager.disable
    try:
        for level, set_bars in ((logging.NOTSET, bars.enable_progress_bar), (logging.INFO, bars.disable_progress_bar)):
            logging.disable(level)
            set_bars()
            CLIP(folder=str(whole["clip"])).load(CPU, torch.float32)
            assert logging.root.manager.disable == level
            assert bars.is_progress_bar_enabled() == (set_bars is bars.enable_progress_bar)
    finally:
        logging.disable(before)
        bars.enable_progress_bar()


def test_text_encoders_are_named_and_built_without_torch_and_transformers(tmp_path: Path) -> None:
    program = (
        "import sys; from s2search import registry\n"
        "for text in ('hashing', 'clip[folder=x]', 'gemma[folder=x]'): registry.create('texts', text)\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr

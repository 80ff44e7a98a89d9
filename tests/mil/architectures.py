"""Public architectures with random weights, as their papers define them; torchvision is not among what tests install.

`resnet_18`, `vit_tiny`, `bert_mini`, `llama_small` and `gpt2_small` are transformers' own classes. `MobileNetV3` is
written out by table 2 of its paper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Kernel, expansion, out, squeeze and excite, hard swish, stride. Source: Howard et al., "Searching for MobileNetV3",
#: arXiv 1905.02244 (2019), table 2, MobileNetV3-Small.
_SMALL = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


def _conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(after, eps=1e-3)]


class Squeeze(nn.Module):
    """Gates channels by what their means say. Source: section 5.3: a quarter of the expansion, hard sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(8, (channels // 4 + 4) // 8 * 8)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1),
            nn.Hardsigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class Bottleneck(nn.Module):
    """Expands, convolves each channel, gates, projects."""

    def __init__(
        self, before: int, kernel: int, inner: int, after: int, squeezes: bool, hard: bool, stride: int
    ) -> None:
        super().__init__()
        act = nn.Hardswish if hard else nn.ReLU
        layers = [*_conv(before, inner, 1), act()] if inner != before else []
        layers += [*_conv(inner, inner, kernel, stride, inner), act()]
        layers += [Squeeze(inner)] if squeezes else []
        self.layers = nn.Sequential(*layers, *_conv(inner, after, 1))
        self.adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


class MobileNetV3(nn.Module):
    """MobileNetV3-Small with its head."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers, channels = [*_conv(3, 16, 3, 2), nn.Hardswish()], 16
        for kernel, inner, after, squeezes, hard, stride in _SMALL:
            layers.append(Bottleneck(channels, kernel, inner, after, squeezes, hard, stride))
            channels = after
        layers += [*_conv(96, 576, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.layers = nn.Sequential(*layers, nn.Linear(576, 1024), nn.Hardswish(), nn.Linear(1024, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Logits(nn.Module):
    """The first answer of a model of transformers."""

    def __init__(self, model: nn.Module, **options) -> None:
        super().__init__()
        self.model, self.options = model, options

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x, **self.options)[0]


def resnet_18() -> tuple[nn.Module, Tensor]:
    """ResNet-18. Source: He et al., arXiv 1512.03385 (2015), table 1."""
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=1000
    )
    return Logits(ResNetForImageClassification(config), return_dict=False), torch.randn(1, 3, 224, 224)


def mobilenet_v3() -> tuple[nn.Module, Tensor]:
    """MobileNetV3-Small at 224."""
    return MobileNetV3(), torch.randn(1, 3, 224, 224)


def vit_tiny() -> tuple[nn.Module, Tensor]:
    """ViT-Ti/16. Source: Touvron et al., DeiT, arXiv 2012.12877 (2020), table 1."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768, num_labels=1000)
    return Logits(ViTForImageClassification(config), return_dict=False), torch.randn(1, 3, 224, 224)


def bert_mini() -> tuple[nn.Module, Tensor]:
    """BERT-Mini, a text encoder of 4 layers. Source: Turc et al., arXiv 1908.08962 (2019), table 1."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024, vocab_size=1000
    )
    return Logits(BertModel(config), return_dict=False), torch.randint(0, 1000, (1, 24))


def llama_small() -> tuple[nn.Module, Tensor]:
    """A Llama of 4 layers: grouped heads, rotary angles, RMS norms, gated layers; logits of a whole prompt."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4,
        vocab_size=1000,
    )  # fmt: skip
    return Logits(LlamaForCausalLM(config), **_causal(24)), torch.randint(0, 1000, (1, 24))


def gpt2_small() -> tuple[nn.Module, Tensor]:
    """A GPT-2 of 4 layers: learned positions, fused projections, causal attention; logits of a whole prompt."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_embd=256, n_layer=4, n_head=4, vocab_size=1000, n_positions=64)
    return Logits(GPT2LMHeadModel(config), **_causal(24)), torch.randint(0, 1000, (1, 24))


def _causal(tokens: int) -> dict:
    """Return options with a whole mask: transformers makes one of operators that coremltools does not convert."""
    mask = torch.full((tokens, tokens), -1e9).triu(1)
    return {"return_dict": False, "use_cache": False, "attention_mask": mask[None, None]}


#: By name.
ARCHITECTURES = {
    "ResNet-18": resnet_18,
    "MobileNetV3-Small": mobilenet_v3,
    "ViT-Ti/16": vit_tiny,
    "BERT-Mini": bert_mini,
    "Llama, 4 layers": llama_small,
    "GPT-2, 4 layers": gpt2_small,
}

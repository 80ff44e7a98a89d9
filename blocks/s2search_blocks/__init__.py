"""The block library: candidate layers of the sandwich, its two ends and the switches between its streams.

In each folder `spec.py` holds the torch-free specification (options, formulas of its cost), which makes all forms:
`module.py`, the `torch.nn.Module` that is trained; `fused.py`, the same for running fast; `channels_first.py`, the same
for phones. A form knows the module that it is made from, and a module knows no form. `layer` is what every block has
around its attention, and `pieces` is what the modules are made of.

Source: Zhao et al., "S2DiT: Sandwich Diffusion Transformer for Mobile Streaming Video Generation",
arXiv 2601.12719 (2026).
"""

"""The block library: candidate layers of the sandwich, its two ends and the switches between its streams.

`x.py` holds the torch-free specification of x (options, formulas of its cost) and `x_module.py` the `torch.nn.Module`
that it builds. Files without such a twin hold what the modules share: `rotary`, `norms`, `feed_forward`,
`cross_attention`, `cells`, `window`.

Source: Zhao et al., "S2DiT: Sandwich Diffusion Transformer for Mobile Streaming Video Generation",
arXiv 2601.12719 (2026).
"""

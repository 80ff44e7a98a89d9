"""Codecs: pixels <-> latents, causal in time; `base.py` is the contract."""

"""Realizing: a plan becomes a `torch.nn.Module` of the planned layers, saved and loaded with the plan it came from."""

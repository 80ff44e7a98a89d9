"""Clips to train on: where they come from, how they are stored as latents, and how they are read."""

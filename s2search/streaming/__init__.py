"""Streaming: chunk after chunk from a small causal state."""

"""Scores: what the search maximises, one number per layer and candidate."""

"""Precision as one more choice per part of a model: what it costs, what it saves, and which to take."""

"""Latency models: each predicts the cost of one part from a table, with its uncertainty."""

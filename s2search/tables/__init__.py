"""Latency tables: rows, card, and what is done with whole tables."""

"""Readers: other people's measurements, made into latency tables with their provenance kept."""

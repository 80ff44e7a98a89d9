"""Stem and head: the first and last part of every model."""

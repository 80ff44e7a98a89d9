"""The two switches between high and low resolution."""

"""A new phone's table from another's and a few timings."""

"""Whether what was exported computes what was promised, on Linux."""

"""Solvers: each turns a `Problem` into a checked `Solution`, or raises `InfeasibleError`."""

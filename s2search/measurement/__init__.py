"""Profilers, and the protocol by which they fill a latency table.

`base` is the contract of a profiler, `items` what a campaign measures, `campaign` the protocol, `samples` the raw data
on disk, `tabulate` the way from samples to rows. The other files are profilers and what they share.
"""

"""The phone kit: a measuring campaign in one folder, built on Linux, run on a Mac with a phone, read back here.

`manifest` is what the folder says of itself, `calls` turns items into functions of plain tensors, `build` makes the
folder, `results` is what comes back, `ingest` makes tables of it. `mac/` is copied into every kit: the runner and the
Swift sources.
"""

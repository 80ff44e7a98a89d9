"""The phone kit: a measuring campaign in one folder, built on Linux, run on a Mac with a phone, read back here.

`manifest` is what the folder says of itself, `build` makes the folder, `results` is what comes back, `ingest` makes
tables of it. The runner and the Swift sources are copied into every kit.
"""

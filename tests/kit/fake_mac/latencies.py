"""How long a row takes on the imagined phone, and what a sample of it says."""

import hashlib


def base_ms(row):
    return 1.0 + hashlib.sha256(b"row %d" % row).digest()[0] / 50


def sample_ms(slot, drift):
    scatter = hashlib.sha256(b"slot %d" % slot["slot"]).digest()[0] / 255 - 0.5
    return base_ms(slot["row"]) * (1 + drift * slot["slot"]) * (1 + 0.02 * scatter)

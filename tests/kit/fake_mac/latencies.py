"""How long a row takes on the imagined phone, and what a sample of it says."""

import hashlib
import math

THROTTLE = 0.3  # how much slower it gets under load
_HEATS_IN_S = 10.0


def base_ms(row):
    return 1.0 + hashlib.sha256(b"row %d" % row).digest()[0] / 50


def sample_ms(slot, drift):
    scatter = hashlib.sha256(b"slot %d" % slot["slot"]).digest()[0] / 255 - 0.5
    return base_ms(slot["row"]) * (1 + drift * slot["slot"]) * (1 + 0.02 * scatter)


def heat(second):
    """How hot it is after so many seconds of load: from 0 to 1."""
    return 1 - math.exp(-second / _HEATS_IN_S)


def hot_ms(slot, second):
    return sample_ms(slot, 0.0) * (1 + THROTTLE * heat(second))


def thermal_under_load(second):
    return ("nominal", "fair", "serious", "critical")[min(3, int(4 * heat(second) / 0.97))]

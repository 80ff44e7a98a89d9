"""What a row takes on the imagined phone: more with the first prediction, less when steady, most at its worst."""

APP_BYTES = 40_000_000
_OF = {"load": 10, "first": 16, "steady": 14, "peak": 17}


def row_bytes(row, moment):
    return max(1, 5 - row) * 1_000_000 * _OF[moment]

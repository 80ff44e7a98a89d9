"""Softmax attention: strided (SSA), full, and with compressed keys and values."""

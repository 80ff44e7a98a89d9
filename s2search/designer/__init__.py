"""Design: which video a device can have, when steps, chunk, size, precision and decoder are choices as the layout is."""

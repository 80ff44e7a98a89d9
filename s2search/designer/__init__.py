"""Design: which video a device can have, when steps, video size, precision and more are choices as the layout is."""

"""Core ML: `exporter` is the plugin; the other files are what it is made of."""

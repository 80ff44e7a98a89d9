"""LCHA, linear attention beside a local convolution, at high resolution."""

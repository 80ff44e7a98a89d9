"""Text encoders and decoders as packages of their own."""

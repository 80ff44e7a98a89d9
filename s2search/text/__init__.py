"""Text encoders: prompts to tokens."""

"""What Core ML packages must be to run on the Neural Engine, as far as others saw or Apple wrote."""

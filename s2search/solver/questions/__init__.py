"""What else is asked of a solved problem: ties, prices, swaps, confidence, why nothing fits."""

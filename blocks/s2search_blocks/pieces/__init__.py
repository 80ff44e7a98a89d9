"""What several blocks are made of: norms, rotary embeddings, windows, cells."""

"""Core ML programs, read and run without Core ML."""

"""The loop between plan and device: whole packages timed against their table, and the table corrected by it."""

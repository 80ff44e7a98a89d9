"""Teachers: models whose answers are kept for students to learn from."""

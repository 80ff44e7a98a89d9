"""A cache of a teacher's answers: made by any number of processes, read by trainers."""

"""What every file and every word of a stranger passes on its way in or out."""

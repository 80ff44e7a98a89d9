"""Several models trained alike, and which of them are better: `s2search train compare`."""

"""What `verify` checks, one file per check."""

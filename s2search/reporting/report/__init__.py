"""The page that tells a campaign: what was found, from table to package, and what nobody measured. One file."""

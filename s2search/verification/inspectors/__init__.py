"""How a package is looked into, one file per exporter."""

"""From modules of torch to the formats that phones run."""

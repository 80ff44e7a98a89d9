"""From a request to a plan that explains itself."""

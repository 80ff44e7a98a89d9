"""Conformance suites: what a plugin author runs against a plugin. The built-in members are their first users."""

"""Any family of models that is a chain of slots with alternatives, planned from its description and any table."""

"""How `dynamic` works: a graph of choices, bounds from prices, labels from both ends."""

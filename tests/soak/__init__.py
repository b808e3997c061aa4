"""A long life of one deployment: random operations against a simple model of what must be true."""

"""The painters of the demonstration pictures, one function per visual category."""

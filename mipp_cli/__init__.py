"""MIPP: content-based retrieval of encrypted images from multiple sources, as a command-line toolkit."""

__version__ = "0.2.0"

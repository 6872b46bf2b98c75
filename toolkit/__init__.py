"""Carry a trained model the whole way to a fast, proven Triton deployment."""

__version__ = "0.1.0"

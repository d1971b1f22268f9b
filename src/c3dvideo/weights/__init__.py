"""Weights: from any name or file to a network."""

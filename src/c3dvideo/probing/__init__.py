"""Linear models on descriptors."""

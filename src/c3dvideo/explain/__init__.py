"""Explain: which pixels and frames an activation or a class comes from."""

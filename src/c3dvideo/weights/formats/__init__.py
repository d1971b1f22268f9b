"""Readers for the file formats of published C3D weights."""

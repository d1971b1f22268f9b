"""Readers of every file format in which C3D weights have been published."""

"""Distillation: a C3D network that learns appearance from an image network, and motion from moving clips."""

"""Inference: uint8 clips in, named activations out, on a CPU or a GPU."""

"""The network on a CPU: three-dimensional Winograd convolution, compiled where there is a compiler."""

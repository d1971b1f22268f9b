"""Writes release_sgd.npz: the trace that tests/training/test_release_sgd.py compares with.

The gradients come from float64 autograd; the updates are the release's rule written out in numpy, apart from our
optimizer class. Run it from the repository's root: python tests/golden/make_release_sgd.py
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def main() -> None:
    spec = importlib.util.spec_from_file_location("trace", HERE.parent / "training" / "test_release_sgd.py")
    assert spec is not None and spec.loader is not None
    trace = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(trace)
    network = trace.golden_network().double()
    weights = {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}
    velocity = {name: np.zeros_like(array) for name, array in weights.items()}
    losses = []
    for number, (inputs, labels) in enumerate(trace.generated_batches(), start=1):
        loss = torch.nn.functional.cross_entropy(network(inputs.double()), labels)
        network.zero_grad()
        loss.backward()
        losses.append(loss.item())
        lr = 1e-4 * 0.1 ** (number // 3)
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None
            bias = name.endswith("bias")
            step = parameter.grad.numpy() + (0.0 if bias else 0.0005) * weights[name]
            velocity[name] = 0.9 * velocity[name] + (2 if bias else 1) * lr * step
            weights[name] = weights[name] - velocity[name]
            parameter.data = torch.from_numpy(weights[name])
    chosen = {n: w.ravel()[np.linspace(0, w.size - 1, min(w.size, 1024)).astype(np.int64)] for n, w in weights.items()}
    np.savez_compressed(
        HERE / "release_sgd.npz",
        loss=np.array(losses),
        **{f"weights/{name}": array.astype(np.float32) for name, array in chosen.items()},
    )


if __name__ == "__main__":
    main()

"""What c3dvideo finds on this machine, and what it will therefore do.

print(examine()["engine"])                 # {"name": "winograd", "kernels": "compiled", ...}
"""

import platform
from importlib import metadata
from typing import Any

import torch

from c3dvideo import __version__, compiled
from c3dvideo.extras import installed_extras
from c3dvideo.files import cache_folder
from c3dvideo.inference.cpu import kernels
from c3dvideo.inference.devices import choose_engine, find_device
from c3dvideo.machine import n_cores, processor_name
from c3dvideo.video.resize import compiled_loop


def examine() -> dict[str, Any]:
    """Versions, processor, GPUs, the engine that "auto" takes and why, cache folder and extras, as JSON values.

    Builds the compiled layers if they have not been built, as the first run would.
    """
    device = find_device("auto")
    return {
        "c3dvideo": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "av": metadata.version("av"),
        "processor": {
            "name": processor_name(),
            "cores": n_cores(),
            "threads": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
        },
        "gpus": [_gpu(index) for index in range(torch.cuda.device_count())],
        "engine": {
            "device": str(device),
            "name": choose_engine("auto", device, "fp32"),
            "on_cpu": choose_engine("auto", torch.device("cpu"), "fp32"),
            **_kernels(),
        },
        "resizing": "numpy" if compiled_loop() is None else "compiled",
        "cache_folder": str(cache_folder()),
        "extras": installed_extras(),
    }


def _kernels() -> dict[str, Any]:
    library = kernels.load()
    if library is None:
        return {"kernels": "plain PyTorch", "because": kernels.why_missing()}
    return {"kernels": "compiled", "library": str(library.path), "compiler": compiled.compiler()}


def _gpu(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    return {
        "device": f"cuda:{index}",
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "capability": f"{properties.major}.{properties.minor}",
    }

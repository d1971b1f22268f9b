"""The processes of a training run: how many there are, which one this is, and who started them.

    launch = find_launch(accelerator="auto", devices="auto", n_nodes=1, strategy="auto")
    launch.rank, launch.world                     # 0, 1 on one device

Lightning starts one process per device of this machine by itself. Under torchrun, SLURM and Ray Train the processes
exist already, and each of them calls `train` with the same arguments.
"""

import os
from dataclasses import dataclass
from typing import Any

from c3dvideo.errors import UsageError
from c3dvideo.training.lightning_api import MisconfigurationException, Trainer, quiet_lightning


@dataclass(frozen=True)
class Launch:
    """Arguments for Lightning's Trainer, and the place of this process among the `world` processes of the run."""

    accelerator: str
    devices: int | str
    n_nodes: int
    strategy: str
    rank: int
    world: int

    @property
    def first(self) -> bool:
        """Whether this process writes the results."""
        return self.rank == 0

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `fit`."""
        names = ("accelerator", "devices", "n_nodes", "strategy")
        return {name: getattr(self, name) for name in names}


def find_launch(*, accelerator: str, devices: int | str, n_nodes: int, strategy: str) -> Launch:
    """The processes that these arguments and the environment amount to.

    torchrun and Ray Train state the number of processes in the environment, which `devices="auto"` takes. Raises
    UsageError when the arguments contradict the environment or name something that is not here.
    """
    local, world = os.environ.get("LOCAL_WORLD_SIZE"), os.environ.get("WORLD_SIZE")
    if devices == "auto" and local and world:
        devices, n_nodes = int(local), int(world) // int(local)
    try:
        with quiet_lightning():
            trainer = Trainer(
                accelerator=accelerator,
                devices=devices,
                num_nodes=n_nodes,
                strategy=strategy,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        given = f"`accelerator={accelerator}`, `devices={devices}`, `n_nodes={n_nodes}` and `strategy={strategy}`"
        raise UsageError(f"{given} cannot be used here: {' '.join(str(error).split())}") from error
    if local and world and trainer.num_devices * n_nodes != int(world):
        raise UsageError(
            f"`devices={devices}` and `n_nodes={n_nodes}` are {trainer.num_devices * n_nodes} processes, but the "
            f"launcher has started {world}; leave `devices=auto`"
        )
    return Launch(accelerator, devices, n_nodes, strategy, trainer.global_rank, trainer.world_size)

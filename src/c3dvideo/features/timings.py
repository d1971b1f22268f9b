"""Where the seconds of a run went.

timings.add(Timings(decode=0.31, preprocess=0.12))
"""

from dataclasses import dataclass


@dataclass
class Timings:
    """Seconds of wall time, by what was done in them.

    The network: `network` is what its calls took; waiting_for_clips and waiting_for_writer are seconds in which nothing
        was submitted to it. Together they are the run, except for its start and end.
    The decoders, whose seconds are summed: `check` is spent on finding out whether the features of a video are stored
        already, `decode` and `preprocess` on its clips, and in waiting_for_network all slots for clips were full.
    The writer: `write`.
    """

    check: float = 0.0
    decode: float = 0.0
    preprocess: float = 0.0
    network: float = 0.0
    write: float = 0.0
    waiting_for_clips: float = 0.0
    waiting_for_writer: float = 0.0
    waiting_for_network: float = 0.0

    def add(self, other: "Timings") -> None:
        """Count the seconds of another thread or process, too."""
        for name, seconds in vars(other).items():
            setattr(self, name, getattr(self, name) + seconds)

    def __str__(self) -> str:
        """All of it in one line, without a full stop.

        >>> print(Timings(network=8.0, waiting_for_clips=2.0, decode=3.0))
        network 8.0, waiting for clips 2.0, for the writer 0.0; decoders: checking 0.0, decoding 3.0, resizing 0.0, \
waiting for the network 0.0; writer 0.0
        """
        return (
            f"network {self.network:.1f}, waiting for clips {self.waiting_for_clips:.1f}, "
            f"for the writer {self.waiting_for_writer:.1f}; decoders: checking {self.check:.1f}, "
            f"decoding {self.decode:.1f}, resizing {self.preprocess:.1f}, "
            f"waiting for the network {self.waiting_for_network:.1f}; writer {self.write:.1f}"
        )

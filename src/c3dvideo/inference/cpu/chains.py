"""Which clips of a batch overlap, found from their pixels.

chains = find_chains(pixels, views, shift=8)       # [[0, 1, 2], [3, 4]]: two videos
frames = join_clips(pixels, chains[0], shift=8)    # uint8 (3, 32, H, W): the frames of clips 0 to 2, each once
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from c3dvideo.inference.cpu.overlap import longest_chain
from c3dvideo.inference.engine_arrays import Array


def find_chains(pixels: Tensor, views: Array, shift: int) -> list[list[int]]:
    """Clips by number, with those of one view that follow each other `shift` frames apart in one list.

    pixels: uint8 (N, 3, T, H, W). views: int64 (N,). A chain has at most `longest_chain(shift)` clips.
    """
    chains: list[list[int]] = []
    # Chains by their view and one row of the frame that the next clip has to begin with. The row finds the chain in a
    # dictionary, where comparing with every chain would take longer as batches mix more videos; one row is enough,
    # because all pixels are compared after that.
    waiting: dict[tuple[int, bytes], list[int]] = {}
    middle = pixels.shape[3] // 2
    for clip, view in enumerate(views.tolist()):
        chain = waiting.pop((view, pixels[clip, :, 0, middle].numpy().tobytes()), [])
        if not 0 < len(chain) < longest_chain(shift) or not torch.equal(
            pixels[chain[-1], :, shift:], pixels[clip, :, :-shift]
        ):
            chain = []
            chains.append(chain)
        chain.append(clip)
        waiting[view, pixels[clip, :, shift, middle].numpy().tobytes()] = chain
    return chains


def join_clips(pixels: Tensor, chain: Sequence[int], shift: int) -> Tensor:
    """The frames (3, T, H, W) from the first of the chained clips to the last, each once."""
    return torch.cat([pixels[chain[0]], *(pixels[clip, :, -shift:] for clip in chain[1:])], 1)

"""Frame settings for tests of decoder processes, which import this module and no torch."""

import os
import signal
import sys
from collections.abc import Callable

from c3dvideo.training.frame_decoding import FrameBlocks, FrameSettings
from c3dvideo.video.sources import Source


class Crashing(FrameSettings):
    """The decoder of a video named crash.mp4 is killed."""

    def reader(self, source: Source, step: Callable[[], None]) -> FrameBlocks:
        assert "torch" not in sys.modules
        if source.path.endswith("crash.mp4"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().reader(source, step)

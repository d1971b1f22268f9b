"""Settings for tests of decoder processes that measure videos; the processes import this module and no torch."""

import os
import signal
import sys
from collections.abc import Callable

from c3dvideo.datasets.measure_videos import Measurement, MeasureSettings
from c3dvideo.video.sources import Source


class Crashing(MeasureSettings):
    """The decoder of a video named crash.mp4 is killed."""

    def reader(self, source: Source, step: Callable[[], None]) -> Measurement:
        assert "torch" not in sys.modules
        if source.path.endswith("crash.mp4"):
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().reader(source, step)

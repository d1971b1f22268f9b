"""Every exception that c3dvideo raises on purpose.

    C3DVideoError
    |-- UsageError            an argument, list or label file that cannot be used as given
    |-- VideoError            one video that cannot be turned into clips; a run continues with the others
    |   |-- DecodeError           unreadable, not a video, damaged
    |   `-- ShortVideoError       fewer frames than one clip needs
    |-- WeightsError          weights of the wrong shape, format or identity
    |   |-- UnsafePickleError     a pickle that would run code
    |   `-- DownloadError         weights that could not be fetched
    |-- StoreError            a feature folder that cannot be read or written
    |-- DatasetError          labels, splits or folders that do not make a data set
    |-- TrainingError         a training run that had to stop
    `-- MissingExtraError     an optional dependency that is not installed

Each message states what happened to which thing, what was received and expected, and what to do next.
"""


class C3DVideoError(Exception):
    """The base class of every exception that c3dvideo raises on purpose.

    >>> from c3dvideo import extract
    >>> try:
    ...     extract(["missing.mp4"], "out")
    ... except C3DVideoError as error:
    ...     print(type(error).__name__)
    UsageError
    """


class UsageError(C3DVideoError):
    """An argument, a list of inputs or a label file cannot be used as given."""


class VideoError(C3DVideoError):
    """One video cannot be turned into clips."""


class DecodeError(VideoError):
    """A source is unreadable, is not a video, or is damaged."""


class ShortVideoError(VideoError):
    """A video has fewer frames than one clip needs."""


class WeightsError(C3DVideoError):
    """Weights have the wrong shape, format or identity."""


class UnsafePickleError(WeightsError):
    """A pickle would run code when loaded, so it was not loaded."""


class DownloadError(WeightsError):
    """Weights could not be fetched."""


class StoreError(C3DVideoError):
    """A feature file or folder cannot be read or written."""


class DatasetError(C3DVideoError):
    """Labels, splits or folders do not make a data set."""


class TrainingError(C3DVideoError):
    """A training run had to stop."""


class MissingExtraError(C3DVideoError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        # pip takes c3dvideo itself as installed, so the same line serves a checkout and a package index.
        super().__init__(f'{package} is not installed; run: pip install "c3dvideo[{extra}]"')

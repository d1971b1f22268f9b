"""The pipeline: every clip once and in order, numbers that do not depend on company, bounded memory, clean stops."""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c3dvideo import C3D
from c3dvideo.errors import StoreError
from c3dvideo.features import activations, pipeline
from c3dvideo.features.activations import FailedVideo, Outcome, StoredVideo, VideoActivations
from c3dvideo.features.decoders import open_decoders
from c3dvideo.features.decoding import Checked
from c3dvideo.features.extractor import Extractor, _shift_frames
from c3dvideo.features.failures import Failure
from c3dvideo.features.pipeline import Writer, compute
from c3dvideo.features.timings import Timings
from c3dvideo.inference.engine import make_engine
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.sources import Source

LAYERS = ["pool2", "conv5b", "fc6", "fc7", "prob"]
ENGINES = ["direct", "winograd"]


@pytest.fixture(autouse=True)
def fake_readers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of readers without files, where decoder processes find it, too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import fake_readers

    yield fake_readers
    del sys.modules["fake_readers"]


def sources(*paths: str) -> list[Source]:
    return [Source(path, path.split(":")[0]) for path in paths]


def computed(
    extractor: Extractor,
    drawn: Iterable[Source | None],
    *,
    check: Any = None,
    read: str = "FakeReader",
    timings: Timings | None = None,
    **options: Any,
) -> Generator[Outcome, None, None]:
    """The outcomes of videos that are read by a class of `fake_readers`."""
    timings = timings or Timings()
    reader = getattr(sys.modules["fake_readers"], read)
    settings = replace(extractor.decode_settings(check), read=reader)
    with open_decoders(
        drawn, settings, n_decoders=extractor.workers, n_slots=extractor.n_slots, timings=timings
    ) as decoders:
        yield from compute(decoders, extractor.engine, timings=timings, **options)


def outcomes(extractor: Extractor, *paths: str, **options: Any) -> dict[str, VideoActivations | Failure]:
    found: dict[str, VideoActivations | Failure] = {}
    for outcome in computed(extractor, sources(*paths), **options):
        assert not isinstance(outcome, StoredVideo)
        assert outcome.source.name not in found
        found[outcome.source.name] = outcome.failure if isinstance(outcome, FailedVideo) else outcome
    return found


def same(one: VideoActivations | Failure, other: VideoActivations | Failure) -> bool:
    assert isinstance(one, VideoActivations)
    assert isinstance(other, VideoActivations)
    return all(one.layers[name].tobytes() == other.layers[name].tobytes() for name in LAYERS)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_clip_has_the_same_bytes_whatever_shares_its_batch(tiny_network: C3D, engine: Any) -> None:
    def run(*paths: str, workers: int = 1) -> dict[str, VideoActivations | Failure]:
        extractor = Extractor(tiny_network, layers=LAYERS, engine=engine, batch_size=4, workers=workers)
        return outcomes(extractor, *paths)

    alone = run("a:3", workers=0)["a"]
    for crowd in [("a:3", "b:2"), ("c:1", "a:3"), ("b:2", "a:3")]:
        assert same(alone, run(*crowd)["a"])
    assert same(alone, run("b:3", "c:1", "a:3", workers=3)["a"])


@pytest.mark.parametrize("engine", ENGINES)
def test_bytes_do_not_depend_on_company_at_full_size(narrow_network: C3D, engine: Any) -> None:
    extractor = Extractor(narrow_network, layers=LAYERS, plan=ClipPlan(), engine=engine, batch_size=3)
    assert same(outcomes(extractor, "a:1")["a"], outcomes(extractor, "b:1", "a:1", "c:1")["a"])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_clip_once_and_in_order(tiny_network: C3D, fake_readers: Any, workers: int) -> None:
    extractor = Extractor(tiny_network, layers=["fc6"], batch_size=4, workers=workers)
    counted: list[int] = []
    found = outcomes(extractor, "a:9", "b:0", "c:1", "d:6", on_clips=counted.append)
    assert sum(counted) == 16
    engine = make_engine(tiny_network, layers=["fc6"])
    for name, n_clips in {"a": 9, "c": 1, "d": 6}.items():
        video = found[name]
        assert isinstance(video, VideoActivations)
        assert video.start_frame.tolist() == [8 * index for index in range(n_clips)]
        assert video.start_seconds.tolist() == [index / 4 for index in range(n_clips)]
        reader = fake_readers.FakeReader(
            f"{name}:{n_clips}", plan=extractor.plan, profile=tiny_network.profile, views=[0]
        )
        expected = np.concatenate([engine(clip.pixels)["fc6"] for clip in reader])
        np.testing.assert_allclose(video.layers["fc6"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("workers", [0, 2])
def test_views_become_an_axis(tiny_network: C3D, fake_readers: Any, workers: int) -> None:
    extractor = Extractor(tiny_network, layers=["fc6", "pool5"], crops="five", batch_size=4, workers=workers)
    found = outcomes(extractor, "a:3")["a"]
    assert isinstance(found, VideoActivations)
    assert found.layers["fc6"].shape == (3, 5, 16)
    assert found.layers["pool5"].shape == (3, 5, 8, 1, 1, 1)
    reader = fake_readers.FakeReader("a:3", plan=extractor.plan, profile=tiny_network.profile, views=range(5))
    for index, clip in enumerate(reader):
        direct = extractor.engine(clip.pixels, np.arange(5))
        np.testing.assert_array_equal(found.layers["fc6"][index], direct["fc6"])


def test_rows_reach_the_engine_as_neighbours_in_time(tiny_network: C3D) -> None:
    extractor = Extractor(tiny_network, layers=["fc6"], crops="five", batch_size=30)
    calls: list[np.ndarray] = []
    submit = extractor.engine.submit

    def watch(clips: np.ndarray, view_index: np.ndarray) -> Callable[[], dict[str, np.ndarray]]:
        calls.append(view_index)
        return submit(clips, view_index)

    extractor.engine.submit = watch  # type: ignore[method-assign]
    outcomes(extractor, "a:3", "b:2")
    assert [view.tolist() for view in calls] == [[view for view in range(5) for _ in range(5)]]


def test_the_engine_is_told_how_clips_overlap(tiny_network: C3D) -> None:
    def shift(**plan: int) -> int | None:
        return _shift_frames(ClipPlan(clip_length=8, **plan))

    assert (shift(stride_frames=4), shift(stride_frames=8)) == (4, None)
    assert (shift(stride_frames=4, sampling_rate=2), shift(stride_frames=3, sampling_rate=2)) == (2, None)


def test_a_failure_takes_only_its_own_video(tiny_network: C3D) -> None:
    extractor = Extractor(tiny_network, layers=LAYERS, batch_size=4)
    clean = outcomes(extractor, "a:3", "c:4")
    mixed = outcomes(extractor, "a:3", "bad:2:cut short", "c:4", "worse:0:no video")
    assert same(clean["a"], mixed["a"])
    assert same(clean["c"], mixed["c"])
    assert mixed["bad"] == Failure(name="bad", path="bad:2:cut short", stage="decode", message="cut short")
    assert isinstance(mixed["worse"], Failure)


def test_clips_in_flight_are_few_however_long_the_video(
    tiny_network: C3D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_readers: Any
) -> None:
    used = 0
    peak = 0
    made = tmp_path / "made"
    monkeypatch.setenv(fake_readers.COUNT_AT, str(made))
    extractor = Extractor(tiny_network, layers=["fc6"], batch_size=4, workers=2)
    engine = extractor.engine

    class SlowOnAGpu:
        views, batch_clips = engine.views, engine.batch_clips
        device = torch.device("cuda")

        def submit(self, clips: np.ndarray, view_index: np.ndarray) -> Callable[[], dict[str, np.ndarray]]:
            assert len(clips) == len(view_index)

            def wait() -> dict[str, np.ndarray]:
                nonlocal used, peak
                time.sleep(0.02)
                peak = max(peak, made.stat().st_size - used)
                used += len(clips)
                return {"fc6": np.zeros((len(clips), 2), np.float32)}

            return wait

    extractor.engine = SlowOnAGpu()  # type: ignore[assignment]
    monkeypatch.setattr(pipeline, "buffer_for", lambda shape, device: np.empty(shape, np.uint8))
    outcomes(extractor, "long:120", "other:120")
    assert made.stat().st_size == 240
    assert peak > 2 * engine.batch_clips
    assert peak <= 4 * engine.batch_clips + extractor.workers


def test_large_activations_go_through_a_file(
    tiny_network: C3D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = Extractor(tiny_network, layers=LAYERS, batch_size=4)
    in_memory = outcomes(extractor, "a:9", "b:3")
    monkeypatch.setattr(activations, "SPILL_BYTES", 20_000)
    spilled = outcomes(extractor, "a:9", "b:3", scratch=tmp_path)
    for name in "ab":
        assert same(in_memory[name], spilled[name])
    large = spilled["a"]
    assert isinstance(large, VideoActivations)
    assert isinstance(large.layers["pool2"], np.memmap)
    assert not isinstance(large.layers["prob"], np.memmap)
    assert list(tmp_path.iterdir()) == []
    failed = outcomes(extractor, "a:9:cut", scratch=tmp_path)["a"]
    assert isinstance(failed, Failure)


def test_no_room_for_large_activations_is_said(
    tiny_network: C3D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(activations, "SPILL_BYTES", 20_000)
    monkeypatch.setattr(activations.tempfile, "TemporaryFile", full)
    extractor = Extractor(tiny_network, layers=LAYERS, batch_size=4)
    with pytest.raises(StoreError, match="has no room for the activations of a long video: the disk is full"):
        outcomes(extractor, "a:9", scratch=tmp_path)


def test_stopping_early_ends_the_decoders(tiny_network: C3D, children: Callable[..., list[int]]) -> None:
    extractor = Extractor(tiny_network, layers=["fc6"], batch_size=2, workers=3)
    running = computed(extractor, sources(*(f"v{n}:3" for n in range(50))))
    next(running)
    assert "decoders" in [thread.name for thread in threading.enumerate()]
    running.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("decoder")] == []
    assert children() == []


def is_b(source: Source, step: Callable[[], None]) -> Checked:
    return Checked(is_stored=source.name == "b")


def test_videos_can_be_left_out_and_waited_for(tiny_network: C3D) -> None:
    extractor = Extractor(tiny_network, layers=["fc6"], batch_size=2, workers=0)

    def drawn() -> Iterator[Source | None]:
        yield from sources("a:1")
        yield None
        yield from sources("b:1", "c:1")

    found = list(computed(extractor, drawn(), check=is_b))
    assert [video.source.name for video in found if isinstance(video, VideoActivations)] == ["a", "c"]
    assert [video.source.name for video in found if isinstance(video, StoredVideo)] == ["b"]


def test_errors_of_the_run_itself_are_raised(tiny_network: C3D) -> None:
    extractor = Extractor(tiny_network, layers=["fc6"], batch_size=2)

    def drawn() -> Iterator[Source]:
        yield from sources("a:1")
        raise RuntimeError("the list ended badly")

    with pytest.raises(RuntimeError, match="ended badly"):
        list(computed(extractor, drawn()))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unforeseen_error_is_named_by_its_type(tiny_network: C3D, workers: int) -> None:
    extractor = Extractor(tiny_network, layers=["fc6"], workers=workers)
    failure = outcomes(extractor, "a:1", read="explode")["a"]
    assert failure == Failure(name="a", path="a:1", stage="decode", message="ZeroDivisionError: by zero")


def test_seconds_are_accounted_for(tiny_network: C3D) -> None:
    timings = Timings()
    outcomes(Extractor(tiny_network, layers=["fc6"]), "a:3", "b:2", timings=timings)
    assert (timings.decode, timings.preprocess) == (2.0, 1.0)
    assert timings.network > 0
    assert timings.waiting_for_clips > 0


def test_the_writer_keeps_order_and_raises_what_it_met() -> None:
    kept: list[str] = []

    def keep(outcome: Any) -> None:
        if outcome.name == "bad":
            raise RuntimeError("disk gone")
        kept.append(outcome.name)

    def failure(name: str) -> Failure:
        return Failure(name=name, path=name, stage="decode", message="m")

    with Writer(keep, Timings()) as writer:
        for name in "abcdef":
            writer.put(failure(name))
    assert kept == list("abcdef")
    with pytest.raises(RuntimeError, match="disk gone"), Writer(keep, Timings()) as writer:
        for name in ["bad", *"ghijklmnopqrstuvwxyz"]:
            writer.put(failure(name))
    assert kept == list("abcdef")

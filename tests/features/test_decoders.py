"""Decoders: whatever a video does to the process that decodes it, the others come out, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3dvideo import C3D
from c3dvideo.errors import C3DVideoError, UsageError
from c3dvideo.features import decoder_manager
from c3dvideo.features.decoder_process import Filled
from c3dvideo.features.decoders import Decoders, open_decoders, slots_needed
from c3dvideo.features.decoding import Begun, DecodeSettings, End, Failed
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.timings import Timings
from c3dvideo.video.sources import Source


@pytest.fixture(autouse=True)
def fake_readers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of readers without files, where decoder processes find it, too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import fake_readers

    yield fake_readers
    del sys.modules["fake_readers"]


@pytest.fixture
def settings(tiny_network: C3D, fake_readers: Any) -> DecodeSettings:
    return replace(Extractor(tiny_network).decode_settings(None), read=fake_readers.FakeReader)


def decoded(
    settings: DecodeSettings, *paths: str, n_decoders: int = 2, n_slots: int = 6, pause: float = 0.0
) -> dict[str, tuple[list[np.ndarray], Any]]:
    """The clips of every video, and how it ended."""
    clips: dict[str, list[np.ndarray]] = {}
    ends: dict[str, Any] = {}
    timings = Timings()
    sources = [Source(path, path.split(":")[0]) for path in paths]
    with open_decoders(sources, settings, n_decoders=n_decoders, n_slots=n_slots, timings=timings) as decoders:
        for message in decoders.messages():
            assert message is not None
            source, content = message
            if isinstance(content, Begun):
                clips[source.name] = []
            elif isinstance(content, Filled):
                assert content.start_frame == 8 * len(clips[source.name])
                clips[source.name].append(decoders.clips[content.slot].copy())
                time.sleep(pause)
                decoders.release([content.slot])
            else:
                assert source.name not in ends
                ends[source.name] = content
    return {name: (clips[name], ends[name]) for name in ends}


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(") ")[2][0] != "Z"


def wait_for(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("n_decoders", [0, 1, 3])
def test_every_clip_arrives_through_few_slots(settings: DecodeSettings, fake_readers: Any, n_decoders: int) -> None:
    paths = ["a:9", "b:0", "c:1", "d:30", "e:7"]
    n_slots = slots_needed([1], 1, n_decoders)
    found = decoded(settings, *paths, n_decoders=n_decoders, n_slots=n_slots)
    assert sorted(found) == ["a", "b", "c", "d", "e"]
    for path in paths:
        reader = fake_readers.FakeReader(path, plan=settings.plan, profile=settings.profile, views=settings.views)
        expected = [clip.pixels for clip in reader]
        clips, end = found[reader.name]
        assert end == End(None, 8 * len(expected))
        assert len(clips) == len(expected)
        for one, other in zip(clips, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_decoders_import_no_torch_and_ignore_ctrl_c(settings: DecodeSettings) -> None:
    _, end = decoded(settings, "a:1:modules")["a"]
    assert end == Failed("decode", "heavy modules: []; ignores Ctrl-C: True")


def test_the_modules_of_a_decoder_import_no_torch() -> None:
    code = (
        "import sys, c3dvideo.features.decoder_process, c3dvideo.features.check_stored; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("segfault", "the decoder crashed (SIGSEGV); repair or re-encode the file"),
        ("signal=6", "the decoder crashed (SIGABRT); repair or re-encode the file"),
        ("signal=9", "the decoder was killed (SIGKILL), as the system does when memory runs out"),
        ("exit=3", "the decoder ended with exit code 3"),
    ],
)
def test_a_decoder_that_dies_costs_one_video(settings: DecodeSettings, word: str, reason: str) -> None:
    path = f"bad:2:{word}"
    found = decoded(settings, "a:5", path, "c:5", path.replace("bad", "worse"), "e:5")
    assert found["bad"][1] == Failed("decode", f"{path!r}: {reason}")
    assert isinstance(found["worse"][1], Failed)
    assert {name: end for name, (_, end) in found.items() if isinstance(end, End)} == dict.fromkeys(
        "ace", End(None, 40)
    )
    assert [len(found[name][0]) for name in "ace"] == [5, 5, 5]


@pytest.mark.parametrize("word", ["sleep=1000", "spin"])
def test_a_decoder_that_hangs_is_replaced(settings: DecodeSettings, word: str) -> None:
    started = time.monotonic()
    found = decoded(replace(settings, stall_seconds=0.5), "a:2", f"bad:1:{word}", "c:2", n_decoders=1)
    assert time.monotonic() - started < 30
    assert found["bad"][1] == Failed(
        "decode",
        f"'bad:1:{word}': no progress for 0.5 seconds; choose a larger `stall_seconds=` if the source is only slow",
    )
    assert found["c"][1] == End(None, 16)


def test_slow_is_not_stalled(settings: DecodeSettings) -> None:
    limited = replace(settings, stall_seconds=1.0)
    assert decoded(limited, "a:1:slow=6")["a"][1] == End(None, 14)  # 3 seconds, with a frame in each half
    ends = decoded(limited, "a:5", "b:5", n_slots=3, pause=0.7)  # the network is slow
    assert [end for _, end in ends.values()] == [End(None, 40)] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no limit of that kind")
def test_a_decoder_that_takes_too_much_memory_costs_one_video(settings: DecodeSettings) -> None:
    limited = replace(settings, memory_bytes=1 << 30)
    found = decoded(limited, f"bad:1:memory={2 << 30}", "b:1", f"c:1:memory={1 << 20}")
    assert found["bad"][1] == Failed("decode", f"'bad:1:memory={2 << 30}': decoding takes more than 1 GB of memory")
    assert found["b"][1] == found["c"][1] == End(None, 8)


def test_a_damaged_video_ends_with_the_reason(settings: DecodeSettings) -> None:
    assert decoded(settings, "a:2:damage=cut")["a"][1] == End(None, 16, "cut")


def test_a_decoder_that_is_killed_from_outside_is_replaced(
    settings: DecodeSettings, children: Callable[..., list[int]]
) -> None:
    seen = []
    sources = [Source(f"{name}:40", name) for name in "abc"]
    with Decoders(sources, settings, n_decoders=1, n_slots=2, timings=Timings()) as decoders:
        for message in decoders.messages():
            assert message is not None
            source, content = message
            if isinstance(content, Filled):
                if len(seen) == 0 and content.start_frame == 16:
                    os.kill(children()[0], signal.SIGKILL)
                decoders.release([content.slot])
            elif not isinstance(content, Begun):
                seen.append((source.name, type(content)))
    assert seen == [("a", Failed), ("b", End), ("c", End)]


def test_no_more_decoders_than_videos(settings: DecodeSettings, children: Callable[..., list[int]]) -> None:
    with Decoders([Source("a:300", "a")], settings, n_decoders=8, n_slots=9, timings=Timings()) as decoders:
        messages = decoders.messages()
        next(messages)
        assert len(children()) == 1
    assert children() == []


def test_a_video_can_be_skipped(settings: DecodeSettings) -> None:
    n_clips = {"a": 0, "b": 0}
    sources = [Source("a:100000", "a"), Source("b:3", "b")]
    with Decoders(sources, settings, n_decoders=1, n_slots=2, timings=Timings()) as decoders:
        for message in decoders.messages():
            assert message is not None
            source, content = message
            if isinstance(content, Filled):
                n_clips[source.name] += 1
                if n_clips["a"] == 2:
                    decoders.skip("a")
                decoders.release([content.slot])
    assert 2 <= n_clips["a"] < 100000
    assert n_clips["b"] == 3


def test_decoders_that_cannot_start_end_the_run(settings: DecodeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_manager, "_FUNCTION", "c3dvideo.features.decoder_process:missing")
    with pytest.raises(C3DVideoError, match=r"a decoder could not be started: .*exit code 1.*`workers=0`"):
        decoded(settings, "a:1")


def test_the_main_module_of_the_user_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "no_guard.py"
    script.write_text(
        "import os\nfrom pathlib import Path\n"
        "from c3dvideo.features.decoders import Decoders\nfrom c3dvideo.features.decoding import DecodeSettings\n"
        "from c3dvideo.features.timings import Timings\nfrom c3dvideo.video.clips import ClipPlan\n"
        "from c3dvideo.video.preprocess import CAFFE\nfrom c3dvideo.video.sources import Source\n"
        "print('main')\n"
        "settings = DecodeSettings(plan=ClipPlan(), profile=CAFFE, views=CAFFE.views('centre'))\n"
        "with Decoders([Source('none', 'none')], settings, n_decoders=2, n_slots=3, timings=Timings()) as decoders:\n"
        "    print([type(content).__name__ for _, content in decoders.messages()])\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "main\n['Begun', 'Failed']\n"


ENDLESS = """
import sys, time
sys.path.insert(0, {tests!r})
import fake_readers
from dataclasses import replace
from c3dvideo.features.decoders import Decoders
from c3dvideo.features.decoding import DecodeSettings
from c3dvideo.features.timings import Timings
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.preprocess import CAFFE
from c3dvideo.video.sources import Source

settings = DecodeSettings(
    plan=ClipPlan(), profile=CAFFE, views=CAFFE.views("centre"), read=fake_readers.FakeReader, stall_seconds=600
)
sources = [Source("a:1:sleep=1000", "a"), Source("b:1:spin", "b"), Source("c:1000", "c")]
with Decoders(sources, settings, n_decoders=3, n_slots=6, timings=Timings()) as decoders:
    for n, _ in enumerate(decoders.messages()):
        print(n, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_decoders_end_with_the_process_that_is_killed_and_leave_no_memory(children: Callable[..., list[int]]) -> None:
    before = set(Path("/dev/shm").iterdir())
    code = ENDLESS.format(tests=str(Path(__file__).parent))
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    for _ in range(5):  # three videos have begun, and two of them have their only clip
        run.stdout.readline()
    time.sleep(1)  # now one decoder sleeps, one spins, and one has filled every slot
    decoders = children(run.pid)
    assert len(decoders) == 3
    run.kill()
    run.communicate(timeout=60)
    wait_for(lambda: not any(map(is_running, decoders)))
    assert set(Path("/dev/shm").iterdir()) <= before


def test_stopping_takes_no_time_whatever_hangs(settings: DecodeSettings, children: Callable[..., list[int]]) -> None:
    sources = [Source("a:0:sleep=1000", "a"), Source("b:0:spin", "b")]
    with Decoders(sources, settings, n_decoders=2, n_slots=3, timings=Timings()) as decoders:
        messages = decoders.messages()
        next(messages), next(messages)
        started = time.monotonic()
    assert time.monotonic() - started < 2
    assert children() == []
    assert not [thread for thread in threading.enumerate() if thread.name == "decoders"]


@pytest.mark.parametrize("n_decoders", [0, 1])
@pytest.mark.parametrize("n_slots", [10**9, 10**20])
def test_memory_that_cannot_be_reserved_names_the_options(
    settings: DecodeSettings, n_decoders: int, n_slots: int
) -> None:
    with pytest.raises(UsageError, match=r"GB\) cannot be reserved; choose a smaller `batch_size=` or fewer"):
        open_decoders([], settings, n_decoders=n_decoders, n_slots=n_slots, timings=Timings())

"""Clip plans: the release's counts, every policy, and streams that cut the same clips without knowing the length."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3dvideo.errors import ShortVideoError, UsageError
from c3dvideo.video.clips import ClipPlan, stream_clips

plans = st.builds(
    ClipPlan,
    clip_length=st.integers(1, 9),
    stride_frames=st.integers(1, 20),
    sampling_rate=st.integers(1, 4),
    tail=st.sampled_from(["drop", "repeat_last", "shift_back"]),
    short=st.sampled_from(["error", "repeat_last", "loop"]),
)
lengths = st.integers(0, 80)


def indices_or_none(plan: ClipPlan, n_frames: int) -> np.ndarray | None:
    try:
        return plan.indices(n_frames)
    except ShortVideoError:
        return None


@given(plan=plans, n_frames=lengths)
def test_a_stream_cuts_exactly_the_planned_clips(plan: ClipPlan, n_frames: int) -> None:
    planned = indices_or_none(plan, n_frames)
    streamed: list[tuple[int, list[int]]] = []
    try:
        streamed.extend(stream_clips(range(n_frames), plan))
    except ShortVideoError:
        assert planned is None and not streamed
        return
    assert planned is not None
    assert [clip for _, clip in streamed] == planned.tolist()
    assert [start for start, _ in streamed] == planned[:, 0].tolist()


@given(plan=plans, n_frames=lengths)
def test_indices_are_frames_of_the_video_in_order(plan: ClipPlan, n_frames: int) -> None:
    clips = indices_or_none(plan, n_frames)
    if clips is None:
        assert n_frames < plan.span_frames and (plan.short == "error" or n_frames == 0)
        return
    assert clips.dtype == np.int64 and clips.shape[1] == plan.clip_length and len(clips) >= 1
    assert clips.min() >= 0 and clips.max() < n_frames
    assert (np.diff(clips[:, 0]) > 0).all()
    if not (n_frames < plan.span_frames and plan.short == "loop"):
        assert (np.diff(clips, axis=1) >= 0).all()


@given(plan=plans, n_frames=lengths)
def test_frames_that_no_clip_may_use_are_in_none(plan: ClipPlan, n_frames: int) -> None:
    clips = indices_or_none(plan, n_frames)
    may_use = {index for index in range(n_frames) if plan.may_use(index)}
    if clips is not None:
        assert set(clips.ravel().tolist()) <= may_use
    if plan.tail == "drop" and plan.short == "error":
        longer = plan.indices(n_frames + plan.span_frames + plan.stride_frames)
        assert may_use == {index for index in longer.ravel().tolist() if index < n_frames}


@given(plan=plans, n_frames=lengths)
def test_clips_start_at_multiples_of_the_stride(plan: ClipPlan, n_frames: int) -> None:
    clips = indices_or_none(plan, n_frames)
    if clips is None:
        return
    starts = clips[:, 0].tolist()
    whole = starts[:-1] if plan.tail == "shift_back" else starts
    assert all(start % plan.stride_frames == 0 for start in whole)
    if n_frames >= plan.span_frames:
        n_whole = (n_frames - plan.span_frames) // plan.stride_frames + 1
        assert len(starts) in ([n_whole] if plan.tail == "drop" else [n_whole, n_whole + 1])


@given(plan=plans, n_frames=lengths)
def test_a_kept_tail_leaves_no_frame_behind_the_last_clip(plan: ClipPlan, n_frames: int) -> None:
    if plan.tail == "drop" or n_frames < plan.span_frames or plan.sampling_rate > 1:
        return
    clips = plan.indices(n_frames)
    gap = max(0, plan.stride_frames - plan.span_frames)
    assert n_frames - 1 - clips.max() <= gap


@given(plan=plans, n_frames=lengths)
def test_a_stream_holds_no_more_than_one_span(plan: ClipPlan, n_frames: int) -> None:
    alive = 0
    most = 0

    class Item:
        def __init__(self) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def items() -> Iterator[Item]:
        for _ in range(n_frames):
            yield Item()

    try:
        for _, clip in stream_clips(items(), plan):
            del clip
    except ShortVideoError:
        pass
    # The deque, the item on its way in, the one the generator still holds and the clip that the caller just let go.
    assert most <= 2 * plan.span_frames + 2


@pytest.mark.parametrize(("n_frames", "stride", "n_clips"), [(164, 16, 10), (107, 16, 6), (107, 8, 12), (164, 8, 19)])
def test_counts_of_the_release(n_frames: int, stride: int, n_clips: int) -> None:
    assert len(ClipPlan(stride_frames=stride).indices(n_frames)) == n_clips


def test_sampling_rate_needs_the_whole_span_as_in_the_release() -> None:
    plan = ClipPlan(sampling_rate=2)
    assert plan.span_frames == 32
    assert plan.indices(32).tolist() == [list(range(0, 32, 2))]
    with pytest.raises(ShortVideoError, match="the video has 31 frames and one clip needs 32"):
        plan.indices(31)


@pytest.mark.parametrize(
    ("tail", "last"),
    [
        ("drop", list(range(16))),
        ("repeat_last", [16] * 16),
        ("shift_back", list(range(1, 17))),
    ],
)
def test_seventeen_frames(tail: str, last: list[int]) -> None:
    assert ClipPlan(tail=tail).indices(17)[-1].tolist() == last  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("short", "clip"),
    [("repeat_last", [*range(15), 14]), ("loop", [*range(15), 0])],
)
def test_fifteen_frames(short: str, clip: list[int]) -> None:
    assert ClipPlan(short=short).indices(15).tolist() == [clip]  # type: ignore[arg-type]


def test_a_short_video_is_an_error_by_default() -> None:
    with pytest.raises(ShortVideoError, match="has 15 frames and one clip needs 16; choose `short=repeat_last` or"):
        ClipPlan().indices(15)
    with pytest.raises(ShortVideoError, match=r"has 0 frames and one clip needs 16$"):
        ClipPlan(short="loop").indices(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip_length": 0}, "clip_length is 0, expected 1 or more"),
        ({"stride_frames": -8}, "stride_frames is -8"),
        ({"sampling_rate": 0}, "sampling_rate is 0"),
        ({"stride_frames": 1.5}, "stride_frames is 1.5, expected a whole number"),
        ({"tail": "pad"}, "`tail=` is 'pad'; expected one of drop, repeat_last, shift_back"),
        ({"short": "skip"}, "`short=` is 'skip'; expected one of error, repeat_last, loop"),
    ],
)
def test_plans_that_make_no_sense_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ClipPlan(**change)  # type: ignore[arg-type]

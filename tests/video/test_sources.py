"""Finding videos: files, folders, frame folders, lists; names, order and collisions."""

import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from c3dvideo.errors import DecodeError, UsageError
from c3dvideo.video.decode import open_video
from c3dvideo.video.encode import write_video
from c3dvideo.video.frame_folder import natural_key
from c3dvideo.video.sources import Source, find_sources


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def typed(text: str | bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(text if isinstance(text, bytes) else text.encode()))


def names(sources: Iterable[Source]) -> list[str]:
    return [source.name for source in sources]


def test_natural_order() -> None:
    unsorted = ["frame10.jpg", "frame9.jpg", "a2b10", "a2b9", "a10", "7", "007", "x"]
    assert sorted(unsorted, key=natural_key) == [
        "007", "7", "a2b9", "a2b10", "a10", "frame9.jpg", "frame10.jpg", "x",
    ]  # fmt: skip


def test_a_folder_is_searched_to_the_bottom_in_natural_order(tmp_path: Path) -> None:
    touch(tmp_path, "v10.mp4", "v9.mp4", "sub/a.mp4", "sub/deep/b.AVI", "notes.txt", "sub/.hidden.mp4", ".git/c.mp4")
    assert find_sources([tmp_path]) == [
        Source(str(tmp_path / "v9.mp4"), "v9.mp4"),
        Source(str(tmp_path / "v10.mp4"), "v10.mp4"),
        Source(str(tmp_path / "sub" / "a.mp4"), "sub/a.mp4"),
        Source(str(tmp_path / "sub" / "deep" / "b.AVI"), "sub/deep/b.AVI"),
    ]


def test_equal_stems_stay_apart(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.mp4", "two/a.mp4", "two/a.avi")
    assert names(find_sources([tmp_path])) == ["one/a.mp4", "two/a.avi", "two/a.mp4"]


def test_frame_folders_are_videos(tmp_path: Path) -> None:
    touch(tmp_path, "sub/v_a/000001.jpg", "sub/v_a/000002.jpg", "sub/v_b/img_1.PNG", "sub/c.mp4", "sub/thumb1.jpg")
    assert names(find_sources([tmp_path])) == ["sub/c.mp4", "sub/v_a", "sub/v_b"]
    assert find_sources([tmp_path / "sub" / "v_a"]) == [Source(str(tmp_path / "sub" / "v_a"), "v_a")]


def test_a_poster_does_not_make_a_frame_folder(tmp_path: Path) -> None:
    touch(tmp_path, "poster.jpg", "sub/a.mp4")
    assert names(find_sources([tmp_path])) == ["sub/a.mp4"]


def test_a_file_is_named_by_itself(tmp_path: Path) -> None:
    touch(tmp_path, "sub/a.mp4")
    assert names(find_sources([tmp_path / "sub" / "a.mp4"])) == ["a.mp4"]


def test_the_same_video_twice_is_one(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    assert names(find_sources([tmp_path, tmp_path / "a.mp4"])) == ["a.mp4"]


def test_two_videos_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.mp4", "two/a.mp4")
    with pytest.raises(UsageError, match=r"would both be stored as 'a.mp4'; give the folder above both"):
        find_sources([tmp_path / "one" / "a.mp4", tmp_path / "two"])


@pytest.mark.parametrize(
    "name", ["with space.mp4", "-dash.mp4", "umläut 动作.mp4", "new\nline.mp4", "col:on.mp4", "%03d.mp4"]
)
def test_odd_names_are_kept(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    assert find_sources([tmp_path]) == [Source(str(tmp_path / name), name)]
    assert find_sources([tmp_path / name]) == [Source(str(tmp_path / name), name)]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "store/a.mp4", "root/b.mp4")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "up").symlink_to(tmp_path / "root")
    assert names(find_sources([tmp_path / "root"])) == ["b.mp4", "link/a.mp4"]


def test_missing_and_empty_inputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"an input is empty; write \. for the current folder"):
        find_sources([""])
    with pytest.raises(UsageError, match="an input is a list; expected paths of videos"):
        find_sources([["a.mp4"]])  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"no such file or folder: .*nowhere"):
        find_sources(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"no such file or folder: .*nowhere"):
        find_sources([tmp_path / "nowhere"])
    touch(tmp_path, "notes.txt")
    with pytest.raises(UsageError, match=r"no video in .*no file with a suffix of a video and no numbered pictures"):
        find_sources([tmp_path])


def test_a_csv_lists_paths_from_its_own_folder(tmp_path: Path) -> None:
    touch(tmp_path, "videos/a.mp4", "videos/with, comma.mp4", "videos/more/c.mp4", "videos/more/d.mp4")
    table = tmp_path / "list.csv"
    table.write_text('label,path\nx,videos/a.mp4\ny,"videos/with, comma.mp4"\nz,videos/more\nz,videos/gone.mp4\n')
    assert find_sources([table]) == [
        Source(str(tmp_path / "videos" / "a.mp4"), "videos/a.mp4"),
        Source(str(tmp_path / "videos" / "with, comma.mp4"), "videos/with, comma.mp4"),
        Source(str(tmp_path / "videos" / "more" / "c.mp4"), "videos/more/c.mp4"),
        Source(str(tmp_path / "videos" / "more" / "d.mp4"), "videos/more/d.mp4"),
        Source(str(tmp_path / "videos" / "gone.mp4"), "videos/gone.mp4"),
    ]


def test_a_csv_without_the_column_or_with_a_hole_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("file,label\na.mp4,x\n")
    with pytest.raises(UsageError, match=r"list.csv' needs a column 'path'; its columns are file, label"):
        find_sources([table])
    table.write_text("")
    with pytest.raises(UsageError, match="its columns are none"):
        find_sources([table])
    table.write_text("path,label\na.mp4,x\n,y\n")
    with pytest.raises(UsageError, match="line 3: the column 'path' is empty"):
        find_sources([table])


def test_stdin_lists_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "one/a.mp4", "two/a.mp4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", typed("one/a.mp4\n./two/a.mp4\n\n-dash.mp4\n../else where/b.mp4\n"))
    assert names(find_sources(["-"])) == ["one/a.mp4", "two/a.mp4", "-dash.mp4", "else where/b.mp4"]


def test_stdin_takes_what_find_print0_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "new\nline.mp4")
    monkeypatch.setattr("sys.stdin", typed(f"{tmp_path}/new\nline.mp4\0{tmp_path}/b.mp4\0"))
    below = str(tmp_path).lstrip("/")
    assert names(find_sources(["-"])) == [f"{below}/new\nline.mp4", f"{below}/b.mp4"]


def test_urls_pass_through_and_get_a_name(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path\nhttps://host/c.mp4\n")
    found = find_sources(["rtsp://user:secret@camera:554/live/1?profile=2", "udp://@", tmp_path / "list.csv"])
    assert names(found) == ["camera:554/live/1", "stream", "host/c.mp4"]
    assert found[0].path == "rtsp://user:secret@camera:554/live/1?profile=2"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"one/a.mp4\r\nb.mp4\r\n", ["one/a.mp4", "b.mp4"]),
        (b"one/a.mp4\r\nb.mp4", ["one/a.mp4", "b.mp4"]),
        (b"\xef\xbb\xbfone/a.mp4\n", ["one/a.mp4"]),
        ("\ufeffone/a.mp4\r\nb.mp4\r\n".encode("utf-16-le"), ["one/a.mp4", "b.mp4"]),
        (b"http://host/a.mp4\r\n", ["host/a.mp4"]),
    ],
)
def test_lists_from_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, expected: list[str]
) -> None:
    touch(tmp_path, "one/a.mp4", "b.mp4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", typed(content))
    assert names(find_sources(["-"])) == expected


def test_a_name_that_ends_in_a_carriage_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.mp4\r")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", typed("a.mp4\r\nb.mp4\r\n"))
    assert names(find_sources(["-"])) == ["a.mp4\r", "b.mp4"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have Unicode names only")
def test_names_that_are_no_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    touch(tmp_path, name)
    (tmp_path / "list.csv").write_bytes(b"path\ncaf\xe9.mp4\n")
    monkeypatch.setattr("sys.stdin", typed(os.fsencode(tmp_path) + b"/caf\xe9.mp4\n"))
    for given in ([tmp_path / name], [tmp_path / "list.csv"], ["-"]):
        (source,) = find_sources(given)
        assert Path(source.path).exists() and source.name.endswith(name)
    assert [source.name for source in find_sources([tmp_path])] == [name]


def test_a_csv_from_excel(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("path,label\r\na.mp4,x\r\n", encoding="utf-16")
    assert names(find_sources([table])) == ["a.mp4"]
    table.write_text("path;label\na.mp4;x\n")
    with pytest.raises(UsageError, match="its columns are path;label; its separator must be a comma"):
        find_sources([table])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path\na.mp4\nb\0.mp4\n", "line 3: the column 'path' holds a NUL"),
        ("path\n" + "a" * 200_000 + "\n", r"line \d: field larger than field limit"),
    ],
)
def test_rows_that_hold_no_path_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(UsageError, match=message):
        find_sources([tmp_path / "list.csv"])


def test_a_name_too_long_for_the_file_system_is_left_to_the_reader(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"path\n{'a' * 5000}.mp4\n")
    (source,) = find_sources([tmp_path / "list.csv"])
    with pytest.raises(DecodeError, match=r"no such file|a name in its path is too long"):
        open_video(source.path)
    with pytest.raises(UsageError, match="no such file or folder"):
        find_sources(["a" * 5000, "b\0c"])


@pytest.mark.parametrize(
    ("listed", "name"),
    [
        ("http://host/../../x.mp4", "host/x.mp4"),
        ("http://host//./a\nb.mp4", "host/ab.mp4"),
        ("rtsp://..", "stream"),
        ("../../../x.mp4", "x.mp4"),
        ("/a/b.mp4", "a/b.mp4"),
        ("file:///a/b.mp4", "a/b.mp4"),
    ],
)
def test_names_stay_below_the_output_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, name: str
) -> None:
    monkeypatch.setattr("sys.stdin", typed(listed + "\0"))
    assert names(find_sources(["-"])) == [name]


@pytest.mark.parametrize("listed", [".", "./", "sub/.."])
def test_the_folder_itself_in_a_list_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    touch(tmp_path / "v", "1.jpg", "sub/x.txt")
    monkeypatch.chdir(tmp_path / "v")
    monkeypatch.setattr("sys.stdin", typed(listed + "\n"))
    assert names(find_sources(["-"])) == ["v"]


# What a search takes and leaves out


@pytest.mark.parametrize(
    "suffix", [".h264", ".264", ".hevc", ".f4v", ".3g2", ".qt", ".mpe", ".apng", ".m2t", ".mk3d", ".ogm", ".MTS"]
)
def test_suffixes_of_videos(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"a{suffix}")
    assert names(find_sources([tmp_path])) == [f"a{suffix}"]


@pytest.mark.parametrize("name", ["dump", "a.ps", "a.dat", "a.MOD"])
def test_files_whose_name_does_not_say_are_looked_into(tmp_path: Path, name: str) -> None:
    pictures = [np.full((48, 64, 3), 9 * number, np.uint8) for number in range(12)]
    write_video(tmp_path / "a.mpg", pictures, codec="mpeg2video")
    (tmp_path / "a.mpg").rename(tmp_path / name)
    (tmp_path / "README").write_text("Read me.\n")
    (tmp_path / "drawing.ps").write_text("%!PS-Adobe-3.0\nshowpage\n")
    (tmp_path / "noise").write_bytes(np.random.default_rng(0).bytes(5000))
    sources = find_sources([tmp_path])
    assert names(sources) == [name]
    assert sources.left_out == {"without suffix": 2, ".ps": 1}


def test_a_picture_without_suffix_is_no_video(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 48)).save(tmp_path / "still", format="PNG")
    with pytest.raises(UsageError, match="no numbered pictures, only 1 file that is no video: 1 without suffix"):
        find_sources([tmp_path])


def test_what_a_search_leaves_out_is_counted_in_one_line(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a.txt", "b.TXT", "sub/poster.jpg", "sub/c.mp4", "v/1.png", "v/2.png", "v/times.csv")
    touch(tmp_path, ".DS_Store", "anim.webp")
    sources = find_sources([tmp_path])
    assert names(sources) == ["a.mp4", "sub/c.mp4", "v"]
    assert sources.note() == "left out 5 files that are no videos: 2 .txt, 2 pictures beside videos, 1 .csv"
    assert find_sources([tmp_path / "a.mp4"]).note() is None
    touch(tmp_path, *(f"a.{letter}" for letter in "bcdefg"))
    assert str(find_sources([tmp_path]).note()).endswith(", and 3 other kinds")


def test_a_folder_that_cannot_be_searched_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    touch(tmp_path, "a.mp4")
    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(UsageError, match=r"cannot search .*: permission is denied; make it readable or leave it out"):
        find_sources([tmp_path])

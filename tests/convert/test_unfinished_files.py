import errno
import os
from pathlib import Path

import numpy as np
import pytest

from longlens.convert.gguf_writer import TensorEntry
from longlens.convert.shard_layout import Shard, lay_out
from longlens.convert.unfinished_files import UnfinishedFiles, disk_fault, room_taken
from longlens.errors import CapacityError, LonglensError, UsageError
from longlens.formats.checkpoint import gguf_checkpoint
from longlens.formats.mapped_file import MappedFile

ENTRIES = [TensorEntry(f"t{number}", (3, 32), "F32") for number in range(6)]
DATA = [np.arange(number, number + 96, dtype=np.float32).view(np.uint8) for number in range(6)]
RUN = "a run"


def ignore(number: int) -> None:
    pass


def shards_in(folder: Path) -> tuple[Path, tuple[Shard, ...]]:
    target = folder / "m.gguf"
    return target, lay_out(target, [], ENTRIES, 1400)


def begun(folder: Path, num_tensors: int, run: str = RUN) -> int:
    """Write so many tensors and leave it at that; how many were there before."""
    target, shards = shards_in(folder)
    with UnfinishedFiles(target, shards, run) as files:
        there = files.take_up(ignore)
        for number in range(there, num_tensors):
            files.write(number, 0, DATA[number][:100])
            files.write(number, 100, DATA[number][100:])
            files.finish_tensor(number)
        if num_tensors == len(ENTRIES):
            files.complete()
    return there


def check_whole(folder: Path) -> None:
    _, shards = shards_in(folder)
    assert len(shards) > 1
    assert {path.name for path in folder.iterdir()} == {shard.path.name for shard in shards}
    paths = tuple(shard.path for shard in shards)
    with gguf_checkpoint(paths[0], paths, [MappedFile(path) for path in paths]) as checkpoint:
        assert [bytes(checkpoint.read(entry.name)) for entry in ENTRIES] == [data.tobytes() for data in DATA]


def test_files_have_their_names_when_all_are_whole(tmp_path: Path) -> None:
    begun(tmp_path, 5)
    assert not list(tmp_path.glob("*.gguf"))
    begun(tmp_path, 6)
    check_whole(tmp_path)


@pytest.mark.parametrize("num_tensors", range(6))
def test_a_run_is_taken_up_at_the_last_finished_tensor(tmp_path: Path, num_tensors: int) -> None:
    assert begun(tmp_path, num_tensors) == 0
    assert begun(tmp_path, 6) == num_tensors
    check_whole(tmp_path)


def test_what_was_written_of_an_unfinished_tensor_is_written_again(tmp_path: Path) -> None:
    target, shards = shards_in(tmp_path)
    with UnfinishedFiles(target, shards, RUN) as files:
        files.take_up(ignore)
        files.write(0, 0, DATA[3][:100])
    assert begun(tmp_path, 6) == 0
    check_whole(tmp_path)


def test_a_tensor_whose_bytes_changed_is_written_again_and_all_after_it(tmp_path: Path) -> None:
    begun(tmp_path, 5)
    _, shards = shards_in(tmp_path)
    with (tmp_path / f"{shards[0].path.name}.partial").open("r+b") as file:
        file.seek(shards[0].offsets[1] + 7)
        file.write(b"\xff")
    assert begun(tmp_path, 6) == 1
    check_whole(tmp_path)


def test_a_line_that_was_cut_counts_for_nothing(tmp_path: Path) -> None:
    begun(tmp_path, 4)
    journal = tmp_path / "m.gguf.progress"
    journal.write_bytes(journal.read_bytes()[:-3])
    assert begun(tmp_path, 6) == 3
    check_whole(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]\n", b"\xff\n", b'{"run": "an'])
def test_a_journal_without_a_beginning_begins_anew(tmp_path: Path, content: bytes) -> None:
    begun(tmp_path, 4)
    (tmp_path / "m.gguf.progress").write_bytes(content)
    assert begun(tmp_path, 6) == 0
    check_whole(tmp_path)


def test_another_run_is_not_taken_up(tmp_path: Path) -> None:
    begun(tmp_path, 4, "another run")
    assert begun(tmp_path, 6) == 0
    check_whole(tmp_path)


def test_a_missing_file_begins_anew(tmp_path: Path) -> None:
    begun(tmp_path, 4)
    next(tmp_path.glob("*-00002-*.partial")).unlink()
    assert begun(tmp_path, 6) == 0
    check_whole(tmp_path)


def test_a_run_that_ended_while_it_named_its_files_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced = []

    def replace_once(before: Path, after: Path) -> None:
        if replaced:
            raise OSError(errno.EIO, "the disk went away")
        replaced.append(after)
        os.rename(before, after)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_once)
        with pytest.raises(UsageError, match="cannot be written"):
            begun(tmp_path, 6)
    _, shards = shards_in(tmp_path)
    assert replaced == [shards[-1].path]
    assert begun(tmp_path, 6) == 6
    check_whole(tmp_path)


def test_a_file_of_the_targets_name_is_never_replaced(tmp_path: Path) -> None:
    _, shards = shards_in(tmp_path)
    shards[1].path.write_bytes(b"mine")
    with pytest.raises(UsageError, match="is there already"):
        begun(tmp_path, 6)
    assert [path.name for path in tmp_path.iterdir()] == [shards[1].path.name]
    assert shards[1].path.read_bytes() == b"mine"


def test_a_file_that_took_the_name_of_an_unfinished_one_is_not_taken_for_it(tmp_path: Path) -> None:
    begun(tmp_path, 4)
    _, shards = shards_in(tmp_path)
    (tmp_path / f"{shards[0].path.name}.partial").unlink()
    shards[0].path.write_bytes(b"mine")
    with pytest.raises(UsageError, match="is there already"):
        begun(tmp_path, 6)
    assert shards[0].path.read_bytes() == b"mine"


def test_two_runs_do_not_write_one_target(tmp_path: Path) -> None:
    target, shards = shards_in(tmp_path)
    with UnfinishedFiles(target, shards, RUN) as one, UnfinishedFiles(target, shards, RUN) as other:
        one.take_up(ignore)
        with pytest.raises(LonglensError, match="another process"):
            other.take_up(ignore)


def test_room_of_unfinished_files_is_not_needed_twice(tmp_path: Path) -> None:
    _, shards = shards_in(tmp_path)
    assert room_taken(shards) == 0
    begun(tmp_path, 5)
    assert room_taken(shards) >= 5 * 384


def test_a_full_disk_is_told_from_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    assert isinstance(disk_fault(OSError(errno.ENOSPC, "full"), tmp_path), CapacityError)
    assert isinstance(disk_fault(OSError(errno.EACCES, "no"), tmp_path), UsageError)

"""An open checkpoint, whatever its layout: metadata, named tensors, and the files beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType, TracebackType

from longlens.errors import FormatError, ModelNotFoundError, ParameterError, UsageError
from longlens.formats.file_set import FileSet, Layout, find_files
from longlens.formats.gguf import read_gguf
from longlens.formats.gguf_split import join_shards
from longlens.formats.json_object import read_json_object
from longlens.formats.mapped_file import MappedFile, is_plain_name, read_small_file
from longlens.formats.quoting import quote
from longlens.formats.safetensors import read_safetensors
from longlens.formats.tensors import ByteSource, TensorInfo

CONFIG = "config.json"


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint. Only headers have been read; `read` gives a tensor's bytes where they lie.

    Attributes:
        path: what it was opened from: a file (any shard) or a folder.
        layout: "gguf" or "safetensors".
        metadata: a GGUF's metadata, or config.json.
        tensors: every tensor by name, in the order of shards and entries.
        shards: the files, in order; `TensorInfo.shard` counts in them.
        sources: the same files, open.
    """

    path: Path
    layout: Layout
    metadata: Mapping[str, object]
    tensors: Mapping[str, TensorInfo]
    shards: tuple[Path, ...]
    sources: tuple[ByteSource, ...] = field(repr=False)

    @property
    def total_bytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(tensor.num_bytes for tensor in self.tensors.values())

    def read(self, name: str) -> memoryview:
        """Give the raw bytes of one tensor, without copying them where the file is mapped.

        Raises:
            ParameterError: the checkpoint holds no such tensor.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            close = get_close_matches(name, self.tensors, n=1)
            mend = f"the nearest name is {quote(close[0])}" if close else "see what it holds with: longlens inspect"
            raise ParameterError(f"{self.path} holds no tensor {quote(name)}", mend)
        return self.sources[tensor.shard].read(tensor.offset, tensor.num_bytes)

    def side_file(self, name: str) -> bytes | None:
        """Read a file beside the weights, such as tokenizer.json; None where there is none, and for a GGUF.

        Args:
            name: a plain file name; it cannot lead out of the folder.

        Raises:
            UsageError: the name has a folder in it.
            FormatError: the file is larger than any such file can be.
        """
        if not is_plain_name(name):
            raise UsageError(f"{quote(name)} is not the name of a file in the checkpoint's folder", "use a plain name")
        return read_small_file(self.shards[0].parent / name) if self.layout == "safetensors" else None

    def close(self) -> None:
        """Close the files. Bytes that were handed out stay valid for as long as they are held."""
        for source in self.sources:
            source.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint; only headers are read.

    Args:
        path: a .gguf file (any shard of a split one), a .safetensors file with config.json beside it, or a folder in
            Hugging Face's layout or with the .gguf files of one model.

    Raises:
        ModelNotFoundError: the path, a shard or config.json is missing; the nearest name is given.
        FormatError: a file is damaged, cut short or no checkpoint.
        UnsupportedModelError: a tensor's type is not known.
        UsageError: a folder holds several models.
    """
    files = find_files(path)
    if files.layout == "gguf":
        with _mapped(files.shards) as sources:
            return gguf_checkpoint(path, files.shards, sources)
    config = _read_config(files.shards[0].parent)
    with _mapped(files.shards) as sources:
        return safetensors_checkpoint(path, files, sources, config)


def gguf_checkpoint(path: Path, shards: tuple[Path, ...], sources: Sequence[ByteSource]) -> Checkpoint:
    """Read the headers of a GGUF model from open files.

    Args:
        path: what the checkpoint was opened from.
        shards: its files, in order.
        sources: the same files, open; the checkpoint closes them.

    Raises:
        FormatError: a header is damaged, or the shards are not one set.
        UnsupportedModelError: a tensor's type is not known.
    """
    headers = [read_gguf(source, shard) for shard, source in enumerate(sources)]
    metadata, tensors = join_shards(headers, [source.name for source in sources])
    return Checkpoint(path, "gguf", metadata, MappingProxyType(tensors), shards, tuple(sources))


def safetensors_checkpoint(
    path: Path, files: FileSet, sources: Sequence[ByteSource], config: Mapping[str, object]
) -> Checkpoint:
    """Read the headers of a Hugging Face checkpoint from open files.

    Args:
        path: what the checkpoint was opened from.
        files: its files, in order, and the index.
        sources: the same files, open; the checkpoint closes them.
        config: its config.json.

    Raises:
        FormatError: a header is damaged, the index promises a tensor that its shard does not hold, or a tensor that
            the index does not name is in two shards.
        UnsupportedModelError: a tensor's dtype is not known.
    """
    tensors: dict[str, TensorInfo] = {}
    for shard, source in enumerate(sources):
        here = files.shards[shard].name
        for tensor in read_safetensors(source, shard):
            if files.weight_map.get(tensor.name, here) != here:
                continue  # a second copy; the index says which one counts
            if tensor.name in tensors:
                raise FormatError(
                    f"tensor {quote(tensor.name)} is in {files.shards[tensors[tensor.name].shard].name} and in {here}",
                    "the index does not say which one counts: download the checkpoint again",
                )
            tensors[tensor.name] = tensor
    for name, home in files.weight_map.items():
        if name not in tensors:
            raise FormatError(
                f"the index puts tensor {quote(name)} into {home}, which does not hold it", "download that shard again"
            )
    return Checkpoint(path, "safetensors", config, MappingProxyType(tensors), files.shards, tuple(sources))


def _read_config(folder: Path) -> Mapping[str, object]:
    text = read_small_file(folder / CONFIG)
    if text is None:
        raise ModelNotFoundError(f"{folder} has no {CONFIG}", f"put the model's {CONFIG} beside its weights")
    return MappingProxyType(read_json_object(text, str(folder / CONFIG)))


@contextmanager
def _mapped(paths: Sequence[Path]) -> Iterator[tuple[MappedFile, ...]]:
    """Map files for a checkpoint that will own them; close them if it does not come to be."""
    with ExitStack() as opened:
        yield tuple(opened.enter_context(MappedFile(path)) for path in paths)
        opened.pop_all()

"""The library built from native/: quantised matrix products on the CPU, through raw pointers."""

def type_names() -> list[str]:
    """Element types with kernels, as GGUF spells them."""

def unit_names() -> list[str]:
    """Instruction sets that this processor can run, best first."""

def type_number(name: str) -> int:
    """Number by which the kernels know an element type."""

class Processor:
    """Threads and an instruction set."""

    def __init__(self, num_threads: int, unit_name: str = "") -> None:
        """Start the threads; an empty name takes the best unit."""

    @property
    def unit_name(self) -> str:
        """The instruction set."""

    @property
    def num_threads(self) -> int:
        """Threads, the caller's included."""

    def multiply(
        self,
        type: int,
        weights: int,
        rows: int,
        width: int,
        x: int,
        x_stride: int,
        tokens: int,
        out: int,
        out_stride: int,
        *,
        fine: bool,
    ) -> None:
        """Compute out[t, r] = sum of x[t, k] * W[r, k]; addresses are of fp32, strides in numbers.

        With `fine`, x keeps 15 bits instead of 8.
        """

    def feed_forward(
        self,
        types: tuple[int, int, int],
        addresses: tuple[int, int, int],
        hidden: int,
        width: int,
        x: int,
        tokens: int,
        out: int,
    ) -> None:
        """Compute down(silu(gate x) * up x); rows of x and out lie without gaps."""

    def experts(
        self,
        types: tuple[int, int, int],
        addresses: tuple[int, int, int],
        experts: int,
        hidden: int,
        width: int,
        x: int,
        tokens: int,
        ids: int,
        weights: int,
        choices: int,
        out: int,
    ) -> None:
        """Sum the chosen experts' feed-forwards; `addresses` are of uint64 arrays, an address an expert.

        Raises:
            IndexError: an id outside of 0 .. experts - 1.
        """

_Matrix = tuple[int, int, int, int]
_Rotation = tuple[int, int, int]
_Rows = tuple[int, int, int, int]

FEW_TOKENS: int
"""Most tokens of a call below."""

def rms_norm(
    processor: Processor, x: int, x_stride: int, weight: int, eps: float, rows: int, width: int, out: int
) -> None:
    """Normalise fp32 rows; `out` has no gaps."""

def gqa_attend(
    processor: Processor,
    query: int,
    sizes: tuple[int, int, int, int],
    scale: float,
    keys: _Rows,
    values: _Rows,
    first_position: int,
    out: int,
) -> None:
    """Attend causally; sizes are tokens, heads, key heads and width."""

class MlaProjections:
    """The projections of one layer's latent attention; a matrix is type, address, rows and width."""

    def __init__(
        self,
        processor: Processor,
        q_a: _Matrix,
        q_b: _Matrix,
        kv_a: _Matrix,
        norms: tuple[int, int, float],
        sizes: tuple[int, int, int, int],
        kind: tuple[bool, bool],
    ) -> None:
        """Norms are two addresses and eps; sizes heads, nope, rope, rank; kind whether fine and interleaved."""

    def run(self, hidden: int, tokens: int, rotation: _Rotation, latent: int, query: int, row: int) -> None:
        """Rotation is cosines, sines and pairs; rows lie without gaps."""

class IndexProjections:
    """The projections of one indexer."""

    def __init__(
        self,
        processor: Processor,
        q_b: _Matrix,
        k: _Matrix,
        others: tuple[int, int, float, int],
        sizes: tuple[int, int, int],
        is_interleaved: bool,
    ) -> None:
        """Others are the norm's weight, bias and eps, and head weights; sizes heads, width and rope dims."""

    def run(
        self, hidden: int, latent: int, tokens: int, rotation: _Rotation, query: int, key: int, head_weights: int
    ) -> None:
        """Rows lie without gaps."""

class MlaAttend:
    """Latent attention of one layer in absorbed form."""

    def __init__(self, processor: Processor, key: _Matrix, value: _Matrix, sizes: tuple[int, int, int, int]) -> None:
        """Sizes are heads, nope, rank and value width."""

    def run(
        self,
        query: tuple[int, int, int, int],
        tokens: int,
        rope: int,
        rows: _Rows,
        visible: tuple[int, int, int],
        scale: float,
        out: int,
    ) -> None:
        """Query is nope, rope and the strides of token and head; visible positions, choices, first position."""

class Router:
    """The router of one layer."""

    def __init__(
        self,
        processor: Processor,
        weight: int,
        bias: int,
        sizes: tuple[int, int, int],
        is_normalised: bool,
        factor: float,
    ) -> None:
        """Sizes are experts, hidden and choices."""

    def run(self, x: int, tokens: int, ids: int, weights: int) -> None:
        """Write int64 ids and fp32 weights."""

def kind_names() -> list[str]:
    """Element types that `Dequantiser` expands, as GGUF spells them; a type's place is its number."""

class Dequantiser:
    """Quantised blocks as plain numbers."""

    def __init__(self, grids: bytes, is_plain: bool = False) -> None:
        """Keep the codebooks (`kernels/dequantise.py` says in which order); `is_plain` keeps to the plain loops.

        Raises:
            ValueError: the codebooks are not of the known size.
        """

    def expand(self, kind: int, blocks: int, num_blocks: int, out: int, is_bf16: bool) -> None:
        """Write whole blocks to an address as fp32, or as bf16 rounded from that."""

    def multiply(
        self,
        processor: Processor,
        kind: int,
        weights: int,
        rows: int,
        width: int,
        x: int,
        x_stride: int,
        tokens: int,
        out: int,
        out_stride: int,
    ) -> None:
        """Compute out[t, r] = sum of x[t, k] * W[r, k], both in bf16; addresses are of fp32, strides in numbers."""

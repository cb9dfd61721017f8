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

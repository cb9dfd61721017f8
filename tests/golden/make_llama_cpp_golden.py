"""Record llama.cpp's own logits and choices on the F32 fixture: llama_cpp.npz.

    LLAMA_CPP_LIB_PATH=<folder of libllama.so> python -m tests.golden.make_llama_cpp_golden

llama.cpp rounds differently, so free-running it may choose other positions; a test replays the
recorded ones and then compares logits. Key-value cache in float32, no flash attention: with f16
the index keys alone move many choices.

The intermediate tensors are taken from the evaluation callback. llama.cpp gives the top-k tensor
of a full layer the name of the last shared layer that reuses it, because it renames it each time.

Source: llama.cpp, `src/models/glm-dsa.cpp` ("top_k"), `src/llama-graph.cpp` ("ffn_moe_topk").
"""

import ctypes
import re
from pathlib import Path

import llama_cpp.llama_cpp as llama
import numpy as np

from tests.golden import make_fixtures, tiny_models, transformers_runs
from tests.golden.make_fixtures import FIXTURES

FOLDER = Path(__file__).parent
FILE = "tiny-glm-F32.gguf"
LENGTHS = [64, 256]
GGML_TYPE_F32, GGML_TYPE_I32 = 0, 26
WANTED = re.compile(rb"(top_k|ffn_moe_topk)-\d+")


class GgmlTensor(ctypes.Structure):
    """The head of `struct ggml_tensor`."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("sizes", ctypes.c_int64 * 4),
        ("strides", ctypes.c_size_t * 4),
    )


class Evaluation:
    """A context for one sequence, and the integer tensors that its graph computed, by name."""

    def __init__(self, model: ctypes.c_void_p, length: int) -> None:
        self.seen: dict[str, np.ndarray] = {}
        self._ggml = ctypes.CDLL(str(Path(llama._lib._name).with_name("libggml-base.so")))
        self._ggml.ggml_get_name.restype = ctypes.c_char_p
        self._ggml.ggml_get_name.argtypes = [ctypes.c_void_p]
        self._ggml.ggml_backend_tensor_get.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_size_t,
        ]
        self._callback = llama.ggml_backend_sched_eval_callback(self._look)
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = length
        parameters.n_threads = parameters.n_threads_batch = 1
        parameters.type_k = parameters.type_v = GGML_TYPE_F32
        parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.cb_eval = self._callback
        self._context = llama.llama_init_from_model(model, parameters)

    def logits(self, tokens: np.ndarray, vocab_size: int) -> np.ndarray:
        """Decode all tokens in one batch; float32 [T, vocab]."""
        batch = llama.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place], batch.logits[place] = int(token), place, 1
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
        if llama.llama_decode(self._context, batch):
            raise RuntimeError("llama_decode failed")
        flat = llama.llama_get_logits(self._context)
        result = np.ctypeslib.as_array(flat, (len(tokens), vocab_size)).copy()
        llama.llama_batch_free(batch)
        llama.llama_free(self._context)
        return result

    def _look(self, pointer: int, ask: bool, _: object) -> bool:
        name = self._ggml.ggml_get_name(pointer)
        tensor = ctypes.cast(pointer, ctypes.POINTER(GgmlTensor)).contents
        wanted = bool(WANTED.fullmatch(name)) and tensor.type == GGML_TYPE_I32
        if wanted and not ask:
            width, rows = tensor.sizes[0], tensor.sizes[1] * tensor.sizes[2]
            array = np.empty((rows, width), dtype=np.int32)
            for row in range(rows):  # a view: rows lie further apart than they are wide
                self._ggml.ggml_backend_tensor_get(pointer, array[row].ctypes.data, row * tensor.strides[1], 4 * width)
            self.seen[name.decode()] = array
        return wanted


def record(model: ctypes.c_void_p, config: tiny_models.Config, length: int) -> dict[str, np.ndarray]:
    """Logits of every row, positions of every full layer and experts at one length."""
    tokens = tiny_models.random_tokens(length, length, config["vocab_size"])
    evaluation = Evaluation(model, length)
    logits = evaluation.logits(tokens, config["vocab_size"])
    arrays = {"tokens": tokens.astype(np.int16), "logits": logits}
    full = tiny_models.full_layers(config)
    for name, array in evaluation.seen.items():
        kind, layer = name.rsplit("-", 1)
        if kind == "top_k":
            owner = max(number for number in full if number <= int(layer))
            arrays[f"positions/{owner}"] = transformers_runs.ascending_positions(array)
        else:
            arrays[f"experts/{layer}"] = np.sort(array, axis=-1).astype(np.int16)
    return {f"{length}/{key}": array for key, array in arrays.items()}


def main() -> None:
    """Record the fixture at every length."""
    config = make_fixtures.configs()["tiny-glm"]
    llama.llama_backend_init()
    parameters = llama.llama_model_default_params()
    parameters.use_mmap = False
    model = llama.llama_model_load_from_file(str(FIXTURES / FILE).encode(), parameters)
    arrays: dict[str, np.ndarray] = {}
    for length in LENGTHS:
        arrays |= record(model, config, length)
    np.savez_compressed(FOLDER / "llama_cpp.npz", **arrays)


if __name__ == "__main__":
    main()

#include "vector_loops.inc"

namespace longlens {

const VectorLoops& avx512_loops() {
  static const VectorLoops loops = {"AVX512-VNNI", widen, dot, rms_norm, attend};
  return loops;
}

}  // namespace longlens

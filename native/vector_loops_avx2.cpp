#include "vector_loops.inc"

namespace longlens {

const VectorLoops& avx2_loops() {
  static const VectorLoops loops = {"AVX2", widen, dot, rms_norm, attend};
  return loops;
}

}  // namespace longlens

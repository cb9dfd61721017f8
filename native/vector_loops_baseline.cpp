#include <string_view>

#include "vector_loops.inc"

namespace longlens {

const VectorLoops& baseline_loops() {
  static const VectorLoops loops = {"plain loops", widen, dot, rms_norm, attend};
  return loops;
}

const VectorLoops& loops_for([[maybe_unused]] const char* unit_name) {
#ifdef LONGLENS_X86
  const std::string_view name(unit_name);
  if (name == "AVX2") return avx2_loops();
  if (name != baseline_loops().name) return avx512_loops();
#endif
  return baseline_loops();
}

}  // namespace longlens

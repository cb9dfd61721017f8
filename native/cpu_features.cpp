#include "cpu_features.hpp"

namespace longlens {

std::vector<const Unit*> runnable_units() {
  std::vector<const Unit*> units;
#ifdef LONGLENS_X86
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vnni");
  // every processor with AVX2 converts halves in hardware (F16C)
  if (has_avx512) units.push_back(&avx512_unit());
  if (has_avx2) units.push_back(&avx2_unit());
#endif
  units.push_back(&plain_unit());
  return units;
}

const Unit* find_unit(const std::string& name) {
  for (const Unit* unit : runnable_units()) {
    if (name.empty() || name == unit->name) return unit;
  }
  return nullptr;
}

}  // namespace longlens

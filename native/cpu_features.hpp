// What this processor can run.
#pragma once

#include <string>
#include <vector>

#include "unit.hpp"

namespace longlens {

#ifdef LONGLENS_X86
bool has_avx2();
// With everything that the AVX512 translation units are compiled for.
bool has_avx512();
bool has_avx512_bf16();
// With tiles for int8 that the operating system lets this process use; it is asked for them once.
bool has_amx();
#endif

// Units that this processor can run, best first; the plain loops are always the last.
std::vector<const Unit*> runnable_units();

// The best of them, or the one of that name ("AMX", "AVX512-VNNI", "AVX2", "plain loops"); null if it cannot run here.
// "AMX emulated" is for tests and comes by its name only.
const Unit* find_unit(const std::string& name);

}  // namespace longlens

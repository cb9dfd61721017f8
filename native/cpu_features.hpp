// Which unit this processor can run.
#pragma once

#include <string>
#include <vector>

#include "unit.hpp"

namespace longlens {

// Units that this processor can run, best first; the plain loops are always the last.
std::vector<const Unit*> runnable_units();

// The best of them, or the one of that name ("AVX512-VNNI", "AVX2", "plain loops"); null if it cannot run here.
const Unit* find_unit(const std::string& name);

}  // namespace longlens

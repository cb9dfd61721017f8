// AMX with emulated tile registers: slow, and only for tests, which ask for it by name.
#include "unit_amx.hpp"

namespace longlens {

const Unit& emulated_amx_unit() {
  static const Unit unit = amx_unit_of<EmulatedTiles>("AMX emulated");
  return unit;
}

}  // namespace longlens

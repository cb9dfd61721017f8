// AMX with the processor's own tile registers.
#include "unit_amx.hpp"

namespace longlens {

const Unit& amx_unit() {
  static const Unit unit = amx_unit_of<AmxTiles>("AMX");
  return unit;
}

}  // namespace longlens

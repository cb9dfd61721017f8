#include "activations.hpp"

namespace longlens {

size_t activation_bytes(int tokens, int width) {
  return static_cast<size_t>(tokens) * width + static_cast<size_t>(tokens) * width / kGroup * 4 * sizeof(float);
}

Activations place_activations(void* memory, int tokens, int width) {
  Activations placed;
  placed.tokens = tokens;
  placed.width = width;
  const size_t groups = static_cast<size_t>(tokens) * width / kGroup;
  placed.q = static_cast<int8_t*>(memory);
  placed.scale = reinterpret_cast<float*>(placed.q + static_cast<size_t>(tokens) * width);
  placed.sum = placed.scale + groups;
  placed.half_sum = placed.sum + groups;
  return placed;
}

void subtract_rounded(const float* x, int width, int token, const Activations& rounded, float* out) {
  const size_t at = static_cast<size_t>(token) * rounded.width;
  const int8_t* q = rounded.q + at;
  const float* scale = rounded.scale + at / kGroup;
  for (int i = 0; i < width; ++i) out[i] = x[i] - scale[i / kGroup] * static_cast<float>(q[i]);
}

void fill_panel(const Activations& activations, const TokenChoice& tokens, Type type, uint8_t* panel) {
  const Format& format = format_of(type);
  const size_t groups = static_cast<size_t>(activations.width) / kGroup;
  const size_t m = static_cast<size_t>(tokens.count);
  const size_t stride = panel_group_bytes(tokens.count);
  for (size_t t = 0; t < m; ++t) {
    const size_t row = tokens[static_cast<int>(t)];
    const int8_t* q = activations.q + row * activations.width;
    const float* scale = activations.scale + row * groups;
    const float* sum = activations.sum + row * groups;
    for (size_t g = 0; g < groups; ++g) {
      uint8_t* at = panel + g * stride;
      int halves[2] = {0, 0};
      for (int k = 0; k < 8; ++k) {
        std::memcpy(at + (k * m + t) * 4, q + g * kGroup + k * 4, 4);
        for (int i = 0; i < 4; ++i) halves[k / 4] += q[g * kGroup + k * 4 + i];
      }
      float* numbers = reinterpret_cast<float*>(at + 32 * m);
      numbers[t] = scale[g];
      numbers[m + t] = sum[g];
      int32_t* start = reinterpret_cast<int32_t*>(numbers + 2 * m);
      if (format.group == 16) {
        start[t] = -format.offset * halves[0];
        start[m + t] = -format.offset * halves[1];
      } else {
        start[t] = -format.offset * (halves[0] + halves[1]);
        start[m + t] = 0;
      }
    }
  }
}

}  // namespace longlens

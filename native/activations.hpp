// Activations as int8 with a scale for every 32 numbers, in the two orders that the kernels read.
#pragma once

#include <cstdint>

#include "formats.hpp"

namespace longlens {

constexpr int kGroup = 32;
constexpr int kPanelTokens = 12;

// Rows one after the other, each padded to whole chunks with zeros.
struct Activations {
  int tokens = 0;
  int width = 0;              // padded, a multiple of 256
  int8_t* q = nullptr;        // [tokens][width]
  float* scale = nullptr;     // [tokens][width / 32]
  float* sum = nullptr;       // [tokens][width / 32]: scale * sum of q
  float* half_sum = nullptr; // [tokens][width / 16]: scale * sum of q over 16
};

// Bytes of `Activations` for that many rows; `place` lays it out in memory of that size, aligned to 64.
size_t activation_bytes(int tokens, int width);
Activations place_activations(void* memory, int tokens, int width);

// What rounding left over of a token's numbers.
void subtract_rounded(const float* x, int width, int token, const Activations& rounded, float* out);

// Some of the tokens: `count` from `first`, of all tokens or of a list of them.
struct TokenChoice {
  const int* list;  // null: all
  int first;
  int count;
  size_t operator[](int i) const { return static_cast<size_t>(list ? list[first + i] : first + i); }
};

// Tokens cut into panels of up to `most`, as even as can be.
struct Panels {
  int tokens, count;
  Panels(int num_tokens, int most) : tokens(num_tokens), count((num_tokens + most - 1) / most) {}
  int first(int panel) const { return static_cast<int>(static_cast<int64_t>(tokens) * panel / count); }
  int size(int panel) const { return first(panel + 1) - first(panel); }
};

// A panel holds up to twelve tokens, group after group of 32 numbers, so that a kernel reads it in one stream. One
// group of a panel of `m` tokens:
//   q[8][m][4] int8 | scale[m] f32 | sum[m] f32 | start[2][m] int32
// `start` is what a kernel's integer sums begin with: it undoes the offset that makes weights unsigned (the second half
// only for types with groups of 16).
constexpr size_t panel_group_bytes(int m) { return static_cast<size_t>(m) * 48; }
void fill_panel(const Activations& activations, const TokenChoice& tokens, Type type, uint8_t* panel);

}  // namespace longlens

// The quantised element types of GGUF that have kernels here, and how the bytes of their blocks are laid out.
//
// Source: ggml's block structs (ggml-common.h). A weight is scale * q - minimum; types without a minimum store q with a
// constant offset instead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace longlens {

enum class Type : int { Q8_0, Q4_K, Q6_K, Q5_K, Q4_0, Q4_1, IQ4_NL, IQ4_XS, Q5_0 };
constexpr int kNumTypes = 9;

struct Format {
  const char* name;
  int block_weights;
  int block_bytes;
  int group;          // weights that share a scale: 16 or 32
  bool has_minimum;   // a minimum per group; otherwise `offset`
  int offset;         // what SIMD adds to q so that it is unsigned
};

constexpr Format kFormats[kNumTypes] = {
    {"Q8_0", 32, 34, 32, false, 128}, {"Q4_K", 256, 144, 32, true, 0},    {"Q6_K", 256, 210, 16, false, 32},
    {"Q5_K", 256, 176, 32, true, 0},  {"Q4_0", 32, 18, 32, false, 8},     {"Q4_1", 32, 20, 32, true, 0},
    {"IQ4_NL", 32, 18, 32, false, 128}, {"IQ4_XS", 256, 136, 32, false, 128},
    {"Q5_0", 32, 22, 32, false, 16},
};

constexpr const Format& format_of(Type type) { return kFormats[static_cast<int>(type)]; }

// Work goes in chunks of 256 weights, whatever the block: one block of 256, or eight of 32.
constexpr int kChunk = 256;

constexpr size_t row_bytes(Type type, int width) {
  return static_cast<size_t>(width) / format_of(type).block_weights * format_of(type).block_bytes;
}
constexpr size_t chunk_bytes(Type type) { return row_bytes(type, kChunk); }
constexpr size_t padded(int width) { return (static_cast<size_t>(width) + kChunk - 1) / kChunk * kChunk; }

// A matrix of blocks, row after row, wherever the bytes lie (a mapped file, a tensor): never copied.
struct Weights {
  Type type;
  const uint8_t* data;
  int rows;
  int width;
};

}  // namespace longlens

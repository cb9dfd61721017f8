// Rows of GGUF blocks as plain numbers: fp32 bit for bit as ggml computes them, or bf16 rounded from that once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace longlens {

// Every quantised element type that gguf-py can expand.
enum class Kind : int {
  Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, TQ1_0, TQ2_0, MXFP4, NVFP4,
  IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ1_S, IQ1_M, IQ4_NL, IQ4_XS
};
constexpr int kNumKinds = 23;

struct BlockSize {
  const char* name;
  int weights;
  int bytes;
};

constexpr BlockSize kBlockSizes[kNumKinds] = {
    {"Q4_0", 32, 18},     {"Q4_1", 32, 20},    {"Q5_0", 32, 22},    {"Q5_1", 32, 24},     {"Q8_0", 32, 34},
    {"Q2_K", 256, 84},    {"Q3_K", 256, 110},  {"Q4_K", 256, 144},  {"Q5_K", 256, 176},   {"Q6_K", 256, 210},
    {"TQ1_0", 256, 54},   {"TQ2_0", 256, 66},  {"MXFP4", 32, 17},   {"NVFP4", 64, 36},    {"IQ2_XXS", 256, 66},
    {"IQ2_XS", 256, 74},  {"IQ2_S", 256, 82},  {"IQ3_XXS", 256, 98}, {"IQ3_S", 256, 110}, {"IQ1_S", 256, 50},
    {"IQ1_M", 256, 56},   {"IQ4_NL", 32, 18},  {"IQ4_XS", 256, 136},
};

constexpr const BlockSize& block_size(Kind kind) { return kBlockSizes[static_cast<int>(kind)]; }

// The codebooks of the IQ types, in the order in which they are handed over (kernels/dequantise.py): eight or four
// small numbers an entry. They are the package gguf's; none is written down here.
struct Grids {
  int8_t iq2_xxs[256][8];
  int8_t iq2_xs[512][8];
  int8_t iq2_s[1024][8];
  int8_t iq3_xxs[256][4];
  int8_t iq3_s[512][4];
  int8_t iq1[2048][8];
  uint8_t signs[128];  // seven bits -> eight, the last so that their number is even
};

// Whole blocks, as many as `num_blocks`.
struct Expansion {
  Kind kind;
  const uint8_t* blocks;
  size_t num_blocks;
};

// Rows of bf16 weights times rows of bf16 numbers, added: out[token * out_stride + row]. The width is whole blocks.
struct Products {
  const uint16_t* weights;
  size_t weights_stride;
  int rows;
  const uint16_t* x;
  size_t x_stride;
  int tokens;
  int width;
  float* out;
  size_t out_stride;
};

// One instruction set's loops.
struct Expander {
  void (*to_float[kNumKinds])(const Expansion& job, const Grids& grids, float* out);
  void (*to_bf16[kNumKinds])(const Expansion& job, const Grids& grids, uint16_t* out);
  void (*add_products)(const Products& job);
};

const Expander& plain_expander();
#ifdef LONGLENS_X86
const Expander& avx512_expander();
// For processors that multiply bf16 (AVX512-BF16).
void add_bf16_products(const Products& job);
#endif

// The best one that this processor can run.
const Expander& best_expander();

}  // namespace longlens

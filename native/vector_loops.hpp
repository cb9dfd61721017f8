// Loops over fp32 that every instruction set runs, compiled once for each (vector_loops_*.cpp).
#pragma once

#include <cstddef>
#include <cstdint>

namespace longlens {

// How cached rows are stored.
enum class Element : int { F32, BF16, F16 };

// Running softmax of some heads over the keys seen so far: weights are exp(score - largest).
struct HeadSums {
  float* largest;  // [heads]
  float* total;    // [heads]: sum of the weights
  float* values;   // [heads][value_width]: weighted sum of the values
};

// Rows that all heads of a block attend to: keys [rows][key_width], values [rows][value_width].
struct RowBlock {
  const float* keys;
  size_t key_stride;
  const float* values;
  size_t value_stride;
  int rows;
};

struct VectorLoops {
  const char* name;
  // out[i] = x[i] as fp32
  void (*widen)(const uint8_t* x, Element element, int count, float* out);
  float (*dot)(const float* a, const float* b, int count);
  // out = weight * x / sqrt(mean(x^2) + eps)
  void (*rms_norm)(const float* x, const float* weight, float eps, int count, float* out);
  // sums take in a block of rows; queries [heads][key_width], already scaled
  void (*attend)(const float* queries, int heads, int key_width, int value_width, const RowBlock& block,
                 const HeadSums& sums);
};

const VectorLoops& baseline_loops();
#ifdef LONGLENS_X86
const VectorLoops& avx2_loops();
const VectorLoops& avx512_loops();
#endif

// The loops that go with a unit (unit.hpp), by its name.
const VectorLoops& loops_for(const char* unit_name);

}  // namespace longlens

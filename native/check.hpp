// What the parts of the check program share: random operands in memory of their exact size, and a count of faults.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>

#include "formats.hpp"

namespace longlens::check {

extern std::mt19937 generator;

// Prints what went wrong, as printf does, and counts it.
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
void fault(const char* format, ...);

inline int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); }

// A block of its own on the heap, so that a byte too far is seen.
template <class T>
std::unique_ptr<T[]> exactly(size_t count) {
  return std::unique_ptr<T[]>(new T[count]);
}

// `kTame`: halves near 0.01 and normal rows. `kHostile`: halves of every kind, NaN and infinities among them; rows with
// NaN, infinities, denormals, zeros and huge numbers.
enum class Mood { kTame, kHostile };

std::unique_ptr<uint8_t[]> random_blocks(Type type, int rows, int width, Mood mood);
std::unique_ptr<float[]> random_rows(int tokens, int width, size_t stride, Mood mood);

// A width that the type allows: whole chunks of 256, and for blocks of 32 also less and in between.
int random_width(Type type, int most_chunks);

// Both finite or neither, place by place; the norm of the difference at most `bound` times theirs.
void compare(const char* what, const char* unit, const float* ours, const float* theirs, size_t count, double bound);
void compare_bits(const char* what, const char* unit, const float* ours, const float* theirs, size_t count);

void check_nodes();
void check_pool();
void check_products(int rounds);
void check_experts(int rounds);

}  // namespace longlens::check

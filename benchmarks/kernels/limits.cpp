// What the machine can do at most, for benchmarks/kernels/products.py: reading a buffer, and int8 products in registers.
// Built by that script with -O3 -march=native; needs AVX512-VNNI.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

// Exclusive or of a buffer's 64-byte words, read from first to last.
extern "C" int64_t read_bytes(const uint8_t* p, size_t bytes) {
  __m512i sums[4] = {};
  for (size_t i = 0; i + 256 <= bytes; i += 256) {
    for (size_t j = 0; j < 4; ++j) sums[j] = _mm512_xor_si512(sums[j], _mm512_loadu_si512(p + i + 64 * j));
  }
  return _mm512_reduce_add_epi64(_mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3])));
}

// `rounds` times twelve vpdpbusd that do not wait for each other; returns the operations (a product and a sum count two).
extern "C" int64_t multiply_in_registers(int64_t rounds) {
  __m512i sums[12] = {};
  const __m512i a = _mm512_set1_epi8(1);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (__m512i& sum : sums) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(sum) : "v"(a));
  }
  return rounds * 12 * 128;
}

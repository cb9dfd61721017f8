// Products of packed weights and rows: every type, unit and number of threads, few and many tokens.
#include <algorithm>

#include "check.hpp"
#include "cpu_features.hpp"
#include "matmul.hpp"

namespace longlens::check {
namespace {

void check_product(ThreadPool (&pools)[3], Type type) {
  const Mood mood = between(0, 2) == 0 ? Mood::kHostile : Mood::kTame;
  const int rows = between(0, 3) == 0 ? between(1, 3) : between(1, 70);
  const int width = random_width(type, 3);
  const int tokens = between(0, 1) ? between(1, 9) : between(1, 40);
  const size_t x_stride = static_cast<size_t>(width + between(0, 3)), out_stride = static_cast<size_t>(rows + between(0, 3));
  const auto weights = random_blocks(type, rows, width, mood);
  const auto x = random_rows(tokens, width, x_stride, mood);
  const size_t count = static_cast<size_t>(tokens - 1) * out_stride + static_cast<size_t>(rows);
  const auto truth = exactly<float>(count), alone = exactly<float>(count), out = exactly<float>(count);
  // what lies between the rows of the result is not the kernels' to touch
  for (float* result : {truth.get(), alone.get(), out.get()}) std::fill_n(result, count, 7.0f);
  Matmul job{{type, weights.get(), rows, width}, x.get(), x_stride, tokens, truth.get(), out_stride};
  multiply(plain_unit(), pools[0], job);
  for (const Unit* unit : runnable_units()) {
    job.out = alone.get();
    multiply(*unit, pools[0], job);
    // a few sums may all cancel, and then keep the error of their terms
    compare(format_of(type).name, unit->name, alone.get(), truth.get(), count, count < 64 ? 1e-4 : 1e-5);
    job.out = out.get();
    for (int i = 1; i < 3; ++i) {
      multiply(*unit, pools[i], job);
      compare_bits(format_of(type).name, unit->name, out.get(), alone.get(), count);
    }
  }
}

}  // namespace

void check_products(int rounds) {
  ThreadPool pools[3] = {ThreadPool(1), ThreadPool(2), ThreadPool(3)};
  for (int type = 0; type < kNumTypes; ++type) {
    for (int round = 0; round < rounds; ++round) check_product(pools, static_cast<Type>(type));
  }
}

}  // namespace longlens::check

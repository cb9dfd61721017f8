// A program that runs every unit on random and on hostile operands, each in memory of its exact size, and compares with
// the plain loops. It is built with the address and undefined-behaviour sanitisers: `make sanitise`.
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "cpu_features.hpp"
#include "experts.hpp"
#include "matmul.hpp"

using namespace longlens;

namespace {

std::mt19937 generator(0);
int faults = 0;

int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); }

// A block of its own on the heap, so that a byte too far is seen.
template <class T>
std::unique_ptr<T[]> exactly(size_t count) {
  return std::unique_ptr<T[]>(new T[count]);
}

std::unique_ptr<uint8_t[]> random_blocks(Type type, int rows, int width) {
  const Format& format = format_of(type);
  const size_t bytes = row_bytes(type, width) * static_cast<size_t>(rows);
  auto data = exactly<uint8_t>(bytes);
  for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<uint8_t>(generator());
  for (size_t at = 0; at < bytes; at += static_cast<size_t>(format.block_bytes)) {
    const uint16_t half = static_cast<uint16_t>(0x2000 + between(0, 255));  // about 0.01
    if (type == Type::Q6_K) {
      std::memcpy(&data[at + 208], &half, 2);
      continue;
    }
    std::memcpy(&data[at], &half, 2);
    if (format.has_minimum) std::memcpy(&data[at + 2], &half, 2);
  }
  return data;
}

std::unique_ptr<float[]> random_rows(int tokens, int width, bool is_hostile) {
  const size_t count = static_cast<size_t>(tokens) * width;
  auto x = exactly<float>(count);
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < count; ++i) x[i] = normal(generator);
  if (is_hostile) {
    const float poisons[] = {NAN, INFINITY, -INFINITY, std::numeric_limits<float>::denorm_min(), 1e30f, -0.0f};
    for (float poison : poisons) x[static_cast<size_t>(between(0, static_cast<int>(count) - 1))] = poison;
  }
  return x;
}

void compare(const char* what, const char* unit, const float* ours, const float* theirs, size_t count, double bound) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < count; ++i) {
    if (std::isfinite(ours[i]) != std::isfinite(theirs[i])) {
      std::printf("%s with %s: one of the two is not finite\n", what, unit);
      ++faults;
      return;
    }
    if (!std::isfinite(ours[i])) continue;
    difference += std::pow(static_cast<double>(ours[i]) - theirs[i], 2);
    size += std::pow(static_cast<double>(theirs[i]), 2);
  }
  if (std::sqrt(difference) > bound * std::sqrt(size)) {
    std::printf("%s with %s: off by %g\n", what, unit, std::sqrt(difference / size));
    ++faults;
  }
}

void check_product(ThreadPool& pool, Type type) {
  const int block = format_of(type).block_weights;
  const int rows = between(1, 70), width = block * between(1, 600 / block + 1), tokens = between(1, 30);
  const auto weights = random_blocks(type, rows, width);
  const bool is_hostile = between(0, 2) == 0;
  const auto x = random_rows(tokens, width, is_hostile);
  const size_t count = static_cast<size_t>(tokens) * rows;
  const auto truth = exactly<float>(count), out = exactly<float>(count);
  ThreadPool alone(1);
  Matmul job{{type, weights.get(), rows, width}, x.get(), static_cast<size_t>(width), tokens, truth.get(),
             static_cast<size_t>(rows)};
  multiply(plain_unit(), alone, job);
  job.out = out.get();
  for (const Unit* unit : runnable_units()) {
    multiply(*unit, pool, job);
    compare(format_of(type).name, unit->name, out.get(), truth.get(), count, 1e-5);
  }
}

void check_experts(ThreadPool& pool, Type type) {
  const int block = format_of(type).block_weights;
  const int hidden = block * between(1, 3), width = block * between(1, 3), experts = between(1, 6);
  const int tokens = between(1, 40), choices = between(1, experts);
  const auto gate = random_blocks(type, experts * width, hidden), up = random_blocks(type, experts * width, hidden);
  const auto down = random_blocks(type, experts * hidden, width);
  std::vector<uint64_t> at[3];
  for (int e = 0; e < experts; ++e) {
    const size_t wide = static_cast<size_t>(e) * row_bytes(type, hidden) * static_cast<size_t>(width);
    at[0].push_back(reinterpret_cast<uint64_t>(gate.get() + wide));
    at[1].push_back(reinterpret_cast<uint64_t>(up.get() + wide));
    const size_t tall = static_cast<size_t>(e) * row_bytes(type, width) * static_cast<size_t>(hidden);
    at[2].push_back(reinterpret_cast<uint64_t>(down.get() + tall));
  }
  auto x = random_rows(tokens, hidden, false);
  for (int i = 0; i < tokens * hidden; ++i) x[static_cast<size_t>(i)] /= 16;
  std::vector<int64_t> ids;
  std::vector<float> weights;
  for (int t = 0; t < tokens; ++t) {
    const int first = between(0, experts - 1);
    for (int c = 0; c < choices; ++c) {
      ids.push_back((first + c) % experts);
      weights.push_back(0.1f + static_cast<float>(c));
    }
  }
  const size_t count = static_cast<size_t>(tokens) * hidden, stride = static_cast<size_t>(hidden);
  const auto truth = exactly<float>(count), out = exactly<float>(count);
  ExpertsJob job{{type, at[0].data(), width, hidden}, {type, at[1].data(), width, hidden},
                 {type, at[2].data(), hidden, width}, experts, x.get(), stride, tokens, choices, ids.data(),
                 weights.data(), truth.get(), stride};
  ThreadPool alone(1);
  run_experts(plain_unit(), alone, job);
  job.out = out.get();
  for (const Unit* unit : runnable_units()) {
    run_experts(*unit, pool, job);
    // a hidden number between two steps of int8 may round to the other one
    compare("experts", unit->name, out.get(), truth.get(), count, 1e-3);
  }
}

void check_pool() {
  for (int threads = 1; threads <= 4; ++threads) {
    ThreadPool pool(threads);
    for (int round = 0; round < 300; ++round) {
      const int pieces = between(0, 40);
      std::vector<std::atomic<int>> seen(static_cast<size_t>(pieces));
      pool.run(pieces, [&](int piece) { seen[static_cast<size_t>(piece)].fetch_add(1); });
      for (const auto& count : seen) {
        if (count.load() != 1) {
          std::printf("a piece of work was done %d times\n", count.load());
          ++faults;
        }
      }
      // now and then the threads have time to fall asleep
      if (round % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
}

}  // namespace

int main() {
  check_pool();
  ThreadPool pool(2);
  for (int type = 0; type < kNumTypes; ++type) {
    for (int round = 0; round < 40; ++round) check_product(pool, static_cast<Type>(type));
    for (int round = 0; round < 8; ++round) check_experts(pool, static_cast<Type>(type));
  }
  std::printf("%d faults\n", faults);
  return faults != 0;
}

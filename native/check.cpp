// A program that runs every operation of every unit on random and on hostile operands, each in memory of its exact size,
// with one to three threads, and compares with the plain loops. It is built with the address and undefined-behaviour
// sanitisers, or with the one for threads: `make sanitise`.
#include "check.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace longlens::check {

std::mt19937 generator(0);

namespace {

int faults = 0;

void put_half(uint8_t* at, Mood mood) {
  const bool is_any = mood == Mood::kHostile && between(0, 3) == 0;
  const uint16_t half = static_cast<uint16_t>(is_any ? between(0, 0xffff) : 0x2000 + between(0, 255));  // about 0.01
  std::memcpy(at, &half, 2);
}

}  // namespace

void fault(const char* format, ...) {
  va_list values;
  va_start(values, format);
  std::vprintf(format, values);
  va_end(values);
  std::printf("\n");
  ++faults;
}

std::unique_ptr<uint8_t[]> random_blocks(Type type, int rows, int width, Mood mood) {
  const Format& format = format_of(type);
  const size_t bytes = row_bytes(type, width) * static_cast<size_t>(rows);
  auto data = exactly<uint8_t>(bytes);
  for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<uint8_t>(generator());
  for (size_t at = 0; at < bytes; at += static_cast<size_t>(format.block_bytes)) {
    put_half(&data[at + (type == Type::Q6_K ? 208 : 0)], mood);
    if (format.has_minimum) put_half(&data[at + 2], mood);
  }
  return data;
}

std::unique_ptr<float[]> random_rows(int tokens, int width, size_t stride, Mood mood) {
  const size_t count = static_cast<size_t>(tokens - 1) * stride + static_cast<size_t>(width);
  auto x = exactly<float>(count);
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < count; ++i) x[i] = normal(generator);
  if (mood == Mood::kHostile) {
    // not so huge that a product overflows in one order of multiplications and not in another
    constexpr float kTiny = std::numeric_limits<float>::denorm_min();
    const float poisons[] = {NAN, INFINITY, -INFINITY, kTiny, 1e-36f, 0.0f, -0.0f, 1e25f};
    for (float poison : poisons) {
      const size_t at = static_cast<size_t>(between(0, static_cast<int>(count) - 1));
      // a whole group, or one number
      const size_t last = between(0, 1) ? std::min(count, at + 40) : at + 1;
      for (size_t i = at; i < last; ++i) x[i] = poison;
    }
  }
  return x;
}

int random_width(Type type, int most_chunks) {
  const int block = format_of(type).block_weights;
  if (block == kChunk || between(0, 2) == 0) return kChunk * between(1, most_chunks);
  const int usual[] = {32, 96, 576};
  return between(0, 1) ? usual[between(0, 2)] : block * between(1, kChunk / block * most_chunks);
}

void compare(const char* what, const char* unit, const float* ours, const float* theirs, size_t count, double bound) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < count; ++i) {
    if (std::isfinite(ours[i]) != std::isfinite(theirs[i])) {
      fault("%s with %s: %g instead of %g at %zu", what, unit, ours[i], theirs[i], i);
      return;
    }
    if (!std::isfinite(ours[i])) continue;
    difference += std::pow(static_cast<double>(ours[i]) - theirs[i], 2);
    size += std::pow(static_cast<double>(theirs[i]), 2);
  }
  if (std::sqrt(difference) > bound * std::sqrt(size)) {
    fault("%s with %s: off by %g", what, unit, std::sqrt(difference / size));
  }
}

void compare_bits(const char* what, const char* unit, const float* ours, const float* theirs, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    // one NaN is as good as another
    if (std::memcmp(ours + i, theirs + i, sizeof(float)) == 0 || (std::isnan(ours[i]) && std::isnan(theirs[i]))) continue;
    fault("%s with %s: %.9g instead of %.9g at %zu with another number of threads", what, unit, ours[i], theirs[i], i);
    return;
  }
}

}  // namespace longlens::check

// longlens_check [ROUNDS]: how many random products of every type, and half as many random choices of experts.
int main(int num_words, char** words) {
  using namespace longlens::check;
  alarm(300);  // threads that wait for each other for ever are a fault, too
  const int rounds = num_words > 1 ? std::atoi(words[1]) : 20;
  check_nodes();
  check_pool();
  check_products(rounds);
  check_experts((rounds + 1) / 2);
  std::printf("%d faults\n", faults);
  return faults != 0;
}

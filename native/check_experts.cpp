// Grouped experts: every type and unit, experts chosen by no token, by one and by all.
#include <cstring>
#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "cpu_features.hpp"
#include "experts.hpp"

namespace longlens::check {
namespace {

// The matrices of all experts, one after the other, and where each begins.
struct Stack {
  Type type;
  int rows, width;
  std::unique_ptr<uint8_t[]> blocks;
  std::vector<uint64_t> addresses;

  Stack(Type type_, int experts, int rows_, int width_, Mood mood)
      : type(type_), rows(rows_), width(width_), blocks(random_blocks(type_, experts * rows_, width_, mood)) {
    const size_t bytes = row_bytes(type, width) * static_cast<size_t>(rows);
    for (int e = 0; e < experts; ++e) {
      addresses.push_back(reinterpret_cast<uint64_t>(blocks.get() + static_cast<size_t>(e) * bytes));
    }
  }
  ExpertMatrix matrix() const { return {type, addresses.data(), rows, width}; }
};

// Choices of every token: spread, or all of them the same, so that one expert has all tokens and others none; or all but
// one of the tokens.
std::vector<int64_t> random_choices(int tokens, int choices, int experts) {
  const int habit = between(0, 2);
  std::vector<int64_t> ids;
  for (int t = 0; t < tokens; ++t) {
    int first = habit == 0 ? between(0, experts - 1) : 0;
    if (habit == 2 && t == tokens - 1) first = experts - 1;
    for (int c = 0; c < choices; ++c) ids.push_back((first + c) % experts);
  }
  return ids;
}

void check_choice(ThreadPool (&pools)[3], Type type) {
  const Mood mood = between(0, 3) == 0 ? Mood::kHostile : Mood::kTame;
  const int hidden = random_width(type, 2), width = random_width(type, 2), experts = between(1, 7);
  const int tokens = between(0, 1) ? between(1, 4) : between(1, 40), choices = between(1, experts);
  // rows of `down` are as wide as the experts, so another type must take that width as well
  const Type other = format_of(type).block_weights == kChunk ? Type::Q6_K : Type::Q8_0;
  const Stack gate(type, experts, width, hidden, mood), up(between(0, 1) ? type : other, experts, width, hidden, mood);
  const Stack down(between(0, 1) ? type : other, experts, hidden, width, mood);
  const auto x = random_rows(tokens, hidden, static_cast<size_t>(hidden), mood);
  if (mood == Mood::kTame) {
    for (int i = 0; i < tokens * hidden; ++i) x[static_cast<size_t>(i)] /= 16;
  }
  const std::vector<int64_t> ids = random_choices(tokens, choices, experts);
  std::vector<float> weights;
  for (size_t i = 0; i < ids.size(); ++i) weights.push_back(0.1f + static_cast<float>(i % 3));
  const size_t count = static_cast<size_t>(tokens) * hidden, stride = static_cast<size_t>(hidden);
  const auto truth = exactly<float>(count), alone = exactly<float>(count), out = exactly<float>(count);
  ExpertsJob job{gate.matrix(), up.matrix(), down.matrix(), experts, x.get(), stride, tokens, choices, ids.data(),
                 weights.data(), truth.get(), stride};
  run_experts(plain_unit(), pools[0], job);
  for (const Unit* unit : runnable_units()) {
    job.out = alone.get();
    run_experts(*unit, pools[0], job);
    // A hidden number between two steps of int8 may round to the other one. What is huge may overflow a sum in one order
    // and not in the other, so hostile operands are only compared over threads.
    if (mood == Mood::kTame) compare("experts", unit->name, alone.get(), truth.get(), count, 1e-3);
    job.out = out.get();
    for (int i = 1; i < 3; ++i) {
      run_experts(*unit, pools[i], job);
      compare_bits("experts", unit->name, out.get(), alone.get(), count);
    }
  }
}

// An expert that is not there must be refused before anything is read.
void check_wrong_choice(ThreadPool& pool) {
  const Stack stack(Type::Q8_0, 2, 32, 32, Mood::kTame);
  const auto x = random_rows(1, 32, 32, Mood::kTame);
  const auto out = exactly<float>(32);
  const float weight = 1.0f;
  for (int64_t id : {int64_t{-1}, int64_t{2}, int64_t{1} << 40, INT64_MIN}) {
    try {
      run_experts(plain_unit(), pool,
                  {stack.matrix(), stack.matrix(), stack.matrix(), 2, x.get(), 32, 1, 1, &id, &weight, out.get(), 32});
      fault("expert %lld of two was run", static_cast<long long>(id));
    } catch (const std::out_of_range&) {
    }
  }
}

}  // namespace

void check_experts(int rounds) {
  ThreadPool pools[3] = {ThreadPool(1), ThreadPool(2), ThreadPool(3)};
  check_wrong_choice(pools[1]);
  for (int type = 0; type < kNumTypes; ++type) {
    for (int round = 0; round < rounds; ++round) check_choice(pools, static_cast<Type>(type));
  }
}

}  // namespace longlens::check

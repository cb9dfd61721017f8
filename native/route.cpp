#include "route.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace longlens {

void route(const VectorLoops& loops, const Router& router, const float* x, int tokens, int64_t* ids, float* weights) {
  static thread_local std::vector<float> scores, choice;
  static thread_local std::vector<int> order;
  const size_t experts = static_cast<size_t>(router.experts), hidden = static_cast<size_t>(router.hidden);
  scores.resize(experts);
  choice.resize(experts);
  order.resize(experts);
  for (int t = 0; t < tokens; ++t) {
    for (size_t e = 0; e < experts; ++e) {
      const float logit = loops.dot(router.weight + e * hidden, x + static_cast<size_t>(t) * hidden, router.hidden);
      scores[e] = 1.0f / (1.0f + std::exp(-logit));
      choice[e] = scores[e] + router.bias[e];
      // NaN would break the order; it is chosen first, so that it shows
      if (std::isnan(choice[e])) choice[e] = INFINITY;
    }
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + router.choices, order.end(), [&](int a, int b) {
      const float first = choice[static_cast<size_t>(a)], second = choice[static_cast<size_t>(b)];
      return first > second || (first == second && a < b);
    });
    int64_t* own_ids = ids + static_cast<size_t>(t) * static_cast<size_t>(router.choices);
    float* own_weights = weights + static_cast<size_t>(t) * static_cast<size_t>(router.choices);
    float sum = 0.0f;
    for (int a = 0; a < router.choices; ++a) {
      own_ids[a] = order[static_cast<size_t>(a)];
      own_weights[a] = scores[static_cast<size_t>(order[static_cast<size_t>(a)])];
      sum += own_weights[a];
    }
    const float scale = router.is_normalised ? router.factor / (sum + 1e-20f) : router.factor;
    for (int a = 0; a < router.choices; ++a) own_weights[a] *= scale;
  }
}

}  // namespace longlens

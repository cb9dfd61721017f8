#include "mla_inputs.hpp"

#include <cmath>

namespace longlens {

void rotate(float* x, const float* cos, const float* sin, int half, bool is_interleaved) {
  for (int i = 0; i < half; ++i) {
    float& a = x[is_interleaved ? 2 * i : i];
    float& b = x[is_interleaved ? 2 * i + 1 : i + half];
    const float first = a, second = b;
    a = first * cos[i] - second * sin[i];
    b = second * cos[i] + first * sin[i];
  }
}

void mla_inputs(const Unit& unit, const VectorLoops& loops, ThreadPool& pool, const MlaInputWeights& weights,
                const float* hidden, int tokens, const Rotation& rotation, const MlaInputsOut& out) {
  static thread_local FewRows hidden_rows, latent_rows;
  const int hidden_size = weights.q_a.width, latent_size = weights.q_a.rows;
  const int query_size = weights.nope + weights.rope, row_size = weights.rank + weights.rope;
  const size_t stride = static_cast<size_t>(hidden_size);
  const QuantisedRows& fine = hidden_rows.quantise(unit, hidden, stride, tokens, hidden_size, weights.is_fine);
  QuantisedRows x = fine;
  x.is_fine = false;
  const TokenChoice all{nullptr, 0, tokens};
  multiply_few(unit, pool,
               {{weights.q_a, &fine, all, out.latent, static_cast<size_t>(latent_size)},
                {weights.kv_a, &x, all, out.row, static_cast<size_t>(row_size)}});
  for (int t = 0; t < tokens; ++t) {
    float* latent = out.latent + static_cast<size_t>(t) * static_cast<size_t>(latent_size);
    float* row = out.row + static_cast<size_t>(t) * static_cast<size_t>(row_size);
    const float* cos = rotation.cos + t * rotation.half;
    const float* sin = rotation.sin + t * rotation.half;
    loops.rms_norm(latent, weights.q_a_norm, weights.eps, latent_size, latent);
    loops.rms_norm(row, weights.kv_a_norm, weights.eps, weights.rank, row);
    rotate(row + weights.rank, cos, sin, rotation.half, rotation.is_interleaved);
  }
  const size_t all_heads = static_cast<size_t>(weights.heads * query_size);
  const QuantisedRows& latent =
      latent_rows.quantise(unit, out.latent, static_cast<size_t>(latent_size), tokens, latent_size, false);
  multiply_few(unit, pool, {{weights.q_b, &latent, all, out.query, all_heads}});
  for (int t = 0; t < tokens; ++t) {
    for (int head = 0; head < weights.heads; ++head) {
      float* query = out.query + static_cast<size_t>(t) * all_heads + head * query_size + weights.nope;
      rotate(query, rotation.cos + t * rotation.half, rotation.sin + t * rotation.half, rotation.half,
             rotation.is_interleaved);
    }
  }
}

namespace {

void layer_norm(const float* weight, const float* bias, float eps, int count, float* x) {
  double sum = 0.0, squares = 0.0;
  for (int i = 0; i < count; ++i) sum += x[i];
  const double mean = sum / count;
  for (int i = 0; i < count; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const float scale = static_cast<float>(1.0 / std::sqrt(squares / count + static_cast<double>(eps)));
  for (int i = 0; i < count; ++i) x[i] = (x[i] - static_cast<float>(mean)) * scale * weight[i] + bias[i];
}

}  // namespace

void index_inputs(const Unit& unit, const VectorLoops& loops, ThreadPool& pool, const IndexInputWeights& weights,
                  const float* hidden, const float* latent, int tokens, const Rotation& rotation,
                  const IndexInputsOut& out) {
  static thread_local FewRows hidden_rows, latent_rows;
  const int hidden_size = weights.k.width, latent_size = weights.q_b.width;
  const size_t all_heads = static_cast<size_t>(weights.heads * weights.width);
  const QuantisedRows& x =
      hidden_rows.quantise(unit, hidden, static_cast<size_t>(hidden_size), tokens, hidden_size, true);
  const QuantisedRows& q =
      latent_rows.quantise(unit, latent, static_cast<size_t>(latent_size), tokens, latent_size, true);
  const TokenChoice all{nullptr, 0, tokens};
  multiply_few(unit, pool,
               {{weights.q_b, &q, all, out.query, all_heads},
                {weights.k, &x, all, out.key, static_cast<size_t>(weights.width)}});
  const float scale = 1.0f / std::sqrt(static_cast<float>(weights.heads * weights.width));
  for (int t = 0; t < tokens; ++t) {
    const float* cos = rotation.cos + t * rotation.half;
    const float* sin = rotation.sin + t * rotation.half;
    float* key = out.key + t * weights.width;
    layer_norm(weights.k_norm, weights.k_bias, weights.eps, weights.width, key);
    rotate(key, cos, sin, rotation.half, rotation.is_interleaved);
    for (int head = 0; head < weights.heads; ++head) {
      rotate(out.query + static_cast<size_t>(t) * all_heads + head * weights.width, cos, sin, rotation.half,
             rotation.is_interleaved);
      const float* row = weights.head_weights + static_cast<size_t>(head) * static_cast<size_t>(hidden_size);
      out.head_weights[t * weights.heads + head] =
          scale * loops.dot(row, hidden + static_cast<size_t>(t) * static_cast<size_t>(hidden_size), hidden_size);
    }
  }
}

}  // namespace longlens

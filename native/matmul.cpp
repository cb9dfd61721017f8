#include "matmul.hpp"

#include <algorithm>

#include "scratch.hpp"

namespace longlens {
namespace {

// Below this many bytes of weights, waking another thread costs more than it brings.
constexpr size_t kWorthAThread = 64 * 1024;
constexpr int kPiecesPerThread = 8;
// Chunks of a tile that are packed at a time, and tiles that then meet a panel one after the other. More tiles read panels
// less often; all that is packed should fit the second cache. Measured with 6144 columns: of 4, 8, 12, 16 and all chunks
// with 1 to 4 tiles, this was the best for 512 tokens and none was better for 128.
constexpr int kStretchChunks = 16;
constexpr int kMostTilesTogether = 2;

void multiply_rows(const Unit& unit, ThreadPool& pool, const Matmul& job, const Activations& activations) {
  static thread_local Scratch arranged_scratch;
  const Weights& weights = job.weights;
  const TokenChoice all{nullptr, 0, job.tokens};
  uint8_t* arranged = nullptr;
  if (unit.arrange != nullptr) {
    arranged = arranged_scratch.of(unit.arranged_bytes(job.tokens, weights.width));
    unit.arrange(activations, all, weights.type, arranged);
  }
  const size_t bytes = row_bytes(weights.type, weights.width) * static_cast<size_t>(weights.rows);
  const bool is_small = bytes * static_cast<size_t>(job.tokens) < kWorthAThread;
  const int wanted = is_small ? 1 : pool.num_threads() * kPiecesPerThread;
  const int pieces = std::max(1, std::min(wanted, weights.rows / 4));
  pool.run(pieces, [&](int piece) {
    RowsJob rows{weights, &activations, all, arranged, 0, 0, job.out, job.out_stride};
    rows.first_row = static_cast<int>(static_cast<int64_t>(weights.rows) * piece / pieces);
    rows.last_row = static_cast<int>(static_cast<int64_t>(weights.rows) * (piece + 1) / pieces);
    unit.rows[static_cast<int>(weights.type)](rows);
  });
}

struct TileRange {
  int first, count;
};

// Stretch after stretch of the columns, so that each is packed once, whatever the number of panels.
void multiply_some_tiles(const Unit& unit, const Matmul& job, const Panels& panels, const uint8_t* panel_memory,
                         TileRange tiles) {
  static thread_local Scratch scratch;
  const Weights& weights = job.weights;
  const int type = static_cast<int>(weights.type);
  const int chunks = static_cast<int>(padded(weights.width)) / kChunk;
  const size_t panel_bytes = static_cast<size_t>(chunks) * 8 * panel_group_bytes(unit.panel_tokens);
  // panels that are not laid out group after group are taken whole
  const int step = unit.has_cut_panels ? std::min(kStretchChunks, chunks) : chunks;
  const size_t tile_bytes = static_cast<size_t>(step) * 8 * kTileGroupBytes;
  uint8_t* packed = scratch.of(static_cast<size_t>(tiles.count) * tile_bytes);
  for (int first = 0; first < chunks; first += step) {
    const int last = std::min(chunks, first + step);
    for (int i = 0; i < tiles.count; ++i) {
      unit.pack[type]({weights, (tiles.first + i) * kTileRows, first, last}, packed + i * tile_bytes);
    }
    for (int panel = 0; panel < panels.count; ++panel) {
      const uint8_t* stretch = panel_memory + panel * panel_bytes + first * 8 * panel_group_bytes(panels.size(panel));
      for (int i = 0; i < tiles.count; ++i) {
        const int row = (tiles.first + i) * kTileRows;
        float* out = job.out + static_cast<size_t>(panels.first(panel)) * job.out_stride + row;
        unit.multiply[type]({packed + i * tile_bytes, stretch, static_cast<size_t>(last - first) * 8,
                             panels.size(panel), std::min(kTileRows, weights.rows - row), out, job.out_stride,
                             first > 0});
      }
    }
  }
}

void multiply_tiles(const Unit& unit, ThreadPool& pool, const Matmul& job, const Activations& activations) {
  static thread_local Scratch panel_scratch;
  const Weights& weights = job.weights;
  const size_t groups = static_cast<size_t>(activations.width) / kGroup;
  const Panels panels(job.tokens, unit.panel_tokens);
  const size_t panel_bytes = groups * panel_group_bytes(unit.panel_tokens);
  uint8_t* panel_memory = panel_scratch.of(panel_bytes * static_cast<size_t>(panels.count));
  pool.run(panels.count, [&](int panel) {
    unit.fill_panel(activations, {nullptr, panels.first(panel), panels.size(panel)}, weights.type,
                    panel_memory + panel * panel_bytes);
  });
  const int tiles = (weights.rows + kTileRows - 1) / kTileRows;
  const int together = std::max(1, std::min(kMostTilesTogether, tiles / (pool.num_threads() * kPiecesPerThread)));
  pool.run((tiles + together - 1) / together, [&](int piece) {
    const int first = piece * together;
    multiply_some_tiles(unit, job, panels, panel_memory, {first, std::min(together, tiles - first)});
  });
}

void quantise_all(const Unit& unit, ThreadPool& pool, const Matmul& job, const Activations& activations) {
  constexpr int kFew = 8;
  const int width = job.weights.width;
  pool.run((job.tokens + kFew - 1) / kFew, [&](int piece) {
    static thread_local Scratch left_scratch;
    float* left = reinterpret_cast<float*>(left_scratch.of(static_cast<size_t>(width) * sizeof(float)));
    for (int t = piece * kFew; t < std::min(job.tokens, (piece + 1) * kFew); ++t) {
      const float* x = job.x + static_cast<size_t>(t) * job.x_stride;
      unit.quantise(x, width, t, activations);
      if (!job.fine) continue;
      subtract_rounded(x, width, t, activations, left);
      unit.quantise(left, width, job.tokens + t, activations);
    }
  });
}

void multiply_rounded(const Unit& unit, ThreadPool& pool, const Matmul& job, const Activations& activations) {
  if (job.tokens <= unit.most_row_tokens) {
    multiply_rows(unit, pool, job, activations);
  } else {
    multiply_tiles(unit, pool, job, activations);
  }
}

// Rounded tokens and what they left over, one below the other, and their two results added.
void multiply_fine(const Unit& unit, ThreadPool& pool, const Matmul& job, const Activations& activations) {
  static thread_local Scratch scratch;
  const size_t rows = static_cast<size_t>(job.weights.rows), tokens = static_cast<size_t>(job.tokens);
  Matmul both = job;
  both.tokens = 2 * job.tokens;
  both.out = reinterpret_cast<float*>(scratch.of(2 * tokens * rows * sizeof(float)));
  both.out_stride = rows;
  multiply_rounded(unit, pool, both, activations);
  for (size_t t = 0; t < tokens; ++t) {
    const float *rounded = both.out + t * rows, *left = rounded + tokens * rows;
    for (size_t row = 0; row < rows; ++row) job.out[t * job.out_stride + row] = rounded[row] + left[row];
  }
}

}  // namespace

void multiply(const Unit& unit, ThreadPool& pool, const Matmul& job) {
  static thread_local Scratch scratch;
  // Fine results lie twice in memory before they are added, so they are made for so many tokens at a time.
  constexpr int kMostFineTokens = 256;
  if (job.fine && job.tokens > kMostFineTokens) {
    Matmul first = job, rest = job;
    first.tokens = kMostFineTokens;
    rest.tokens -= kMostFineTokens;
    rest.x += kMostFineTokens * job.x_stride;
    rest.out += kMostFineTokens * job.out_stride;
    multiply(unit, pool, first);
    return multiply(unit, pool, rest);
  }
  const int rounded_tokens = job.fine ? 2 * job.tokens : job.tokens;
  const int width = static_cast<int>(padded(job.weights.width));
  const Activations activations =
      place_activations(scratch.of(activation_bytes(rounded_tokens, width)), rounded_tokens, width);
  quantise_all(unit, pool, job, activations);
  if (job.fine) {
    multiply_fine(unit, pool, job, activations);
  } else {
    multiply_rounded(unit, pool, job, activations);
  }
}

}  // namespace longlens

// Tile registers: eight of up to sixteen rows of 64 bytes, and the product of signed bytes.
//
// `AmxTiles` is the processor's; `EmulatedTiles` does the same in plain loops, so that everything built on tiles runs
// and is tested on processors without them. Both are handed round as a value that is made, used and left by one thread.
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, chapter on AMX.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace longlens {
namespace {

// Shapes of the tiles that the kernels use: 0 .. 3 hold sums, 4 and 5 tokens, 6 and 7 weights.
struct TileShapes {
  int tokens;  // rows of sums and tokens
  int step;    // bytes of a token that one product takes: 16 or 32
};

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

inline TileConfig config_of(const TileShapes& shapes) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    const bool has_tokens = tile == 4 || tile == 5;
    config.row_bytes[tile] = static_cast<uint16_t>(has_tokens ? shapes.step : 64);
    config.rows[tile] = static_cast<uint8_t>(tile < 6 ? shapes.tokens : shapes.step / 4);
  }
  return config;
}

class EmulatedTiles {
 public:
  explicit EmulatedTiles(const TileShapes& shapes) : config_(config_of(shapes)) {}

  template <int kTile>
  void zero() {
    std::memset(tiles_[kTile], 0, sizeof(tiles_[kTile]));
  }

  template <int kTile>
  void load(const void* from, size_t stride) {
    zero<kTile>();
    for (int row = 0; row < config_.rows[kTile]; ++row) {
      std::memcpy(tiles_[kTile][row], static_cast<const uint8_t*>(from) + row * stride, config_.row_bytes[kTile]);
    }
  }

  template <int kTile>
  void store(void* to, size_t stride) const {
    for (int row = 0; row < config_.rows[kTile]; ++row) {
      std::memcpy(static_cast<uint8_t*>(to) + row * stride, tiles_[kTile][row], config_.row_bytes[kTile]);
    }
  }

  // sums[m][n] += the product of row m of `kLeft` and the fours of bytes in column n of `kRight`
  template <int kSums, int kLeft, int kRight>
  void add_products() {
    for (int m = 0; m < config_.rows[kSums]; ++m) {
      for (int k = 0; k < config_.row_bytes[kLeft]; ++k) {
        const int left = static_cast<int8_t>(tiles_[kLeft][m][k]);
        for (int n = 0; n < config_.row_bytes[kSums] / 4; ++n) {
          int32_t sum;
          std::memcpy(&sum, &tiles_[kSums][m][4 * n], 4);
          sum += left * static_cast<int8_t>(tiles_[kRight][k / 4][4 * n + k % 4]);
          std::memcpy(&tiles_[kSums][m][4 * n], &sum, 4);
        }
      }
    }
  }

 private:
  TileConfig config_;
  uint8_t tiles_[8][16][64] = {};
};

#ifdef LONGLENS_AMX
// In assembler, because the compilers' own functions take the number of a tile as a literal only.
class AmxTiles {
 public:
  explicit AmxTiles(const TileShapes& shapes) {
    const TileConfig config = config_of(shapes);
    __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory");
  }
  // A thread that keeps tiles makes every change of threads dearer and keeps its core from resting.
  ~AmxTiles() { __asm__ volatile("tilerelease"); }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;

  template <int kTile>
  void zero() {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }

  template <int kTile>
  void load(const void* from, size_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(kTile) : "memory");
  }

  template <int kTile>
  void store(void* to, size_t stride) const {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(kTile) : "memory");
  }

  template <int kSums, int kLeft, int kRight>
  void add_products() {
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kLeft), "i"(kRight));
  }
};
#endif

}  // namespace
}  // namespace longlens

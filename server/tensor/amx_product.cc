#include "server/tensor/amx_product.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>

#include "server/tensor/parallel.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#define FS_AMX \
  __attribute__((target("amx-tile,amx-bf16,avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#else
#define FS_AMX
#endif

namespace featurescope {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kStep = 32;              // inputs of a tile
constexpr int64_t kTileValues = 512;       // bfloat16 values: 1 KB
constexpr int64_t kBlock = 2 * kTileRows;  // rows and features that are computed together
// Rows whose parts are packed at a time, and the tiles of them that are gone through before the
// next features: as much as stays in the second cache.
constexpr int64_t kRowsAtOnce = 256;
constexpr int64_t kTilesAtOnce = 1536;
constexpr int64_t kFeatureBlocksAtOnce = 4;  // that a thread takes

int64_t TilesOf(int64_t rows) { return (rows + kBlock - 1) / kBlock * 2; }
int64_t StepsOf(int64_t d) { return (d + kStep - 1) / kStep; }

#if defined(__x86_64__) && defined(__linux__)

// The nearest bfloat16, ties to even; its value is taken off `x`.
inline __attribute__((always_inline)) uint16_t TakePart(float* x) {
  uint32_t bits = 0;
  std::memcpy(&bits, x, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) & 0xffff0000U;
  float part = 0;
  std::memcpy(&part, &rounded, sizeof(part));
  *x -= part;
  return static_cast<uint16_t>(rounded >> 16);
}

// The parts of `n` values, at most kStep, the rest zero: part p at out + p * stride.
inline __attribute__((always_inline)) void Split(const float* from, int64_t n, int parts,
                                                 int64_t stride, uint16_t* out) {
  float rest[kStep] = {};
  if (n == kStep) {
    std::memcpy(rest, from, sizeof(rest));
  } else {
    std::copy_n(from, n, rest);
  }
  for (int p = 0; p < parts; ++p) {
    for (int64_t i = 0; i < kStep; ++i) out[p * stride + i] = TakePart(&rest[i]);
  }
}

// Rows [first, first + 16) of x [n, d]; rows from n on are zero.
FS_AMX void PackRows(const float* x, int64_t first, int64_t n, int64_t d, int parts,
                     uint16_t* tiles) {
  for (int64_t r = 0; r < kTileRows; ++r) {
    const int64_t row = first + r;
    for (int64_t k = 0; k < d; k += kStep) {
      uint16_t* to = tiles + k / kStep * parts * kTileValues + r * kStep;
      const int64_t count = row < n ? std::min(kStep, d - k) : 0;
      Split(x + (count > 0 ? row * d + k : 0), count, parts, kTileValues, to);
    }
  }
}

// The same for 16 rows of W, each tile transposed by pairs of inputs.
FS_AMX void PackWeights(const float* W, int64_t first, int64_t m, int64_t d, int parts,
                        uint16_t* tiles) {
  constexpr int kMaxParts = 3;
  alignas(64) uint16_t buffer[kMaxParts * kTileValues];
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i features = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(kTileRows));
  for (int64_t k = 0; k < d; k += kStep) {
    for (int64_t r = 0; r < kTileRows; ++r) {
      const int64_t row = first + r;
      const int64_t count = row < m ? std::min(kStep, d - k) : 0;
      Split(W + (count > 0 ? row * d + k : 0), count, parts, kTileValues, buffer + r * kStep);
    }
    for (int p = 0; p < parts; ++p) {
      uint16_t* to = tiles + (k / kStep * parts + p) * kTileValues;
      for (int pair = 0; pair < kTileRows; ++pair) {
        const __m512i index = _mm512_add_epi32(features, _mm512_set1_epi32(pair));
        const __m512i column = _mm512_i32gather_epi32(index, buffer + p * kTileValues, 4);
        _mm512_store_si512(to + pair * kStep, column);
      }
    }
  }
}

struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

FS_AMX void BeginTiles() {
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.row_bytes[i] = 64;
    config.rows[i] = 16;
  }
  _tile_loadconfig(&config);
}
FS_AMX void EndTiles() { _tile_release(); }

// Registers 0 to 3 are the sums of a block, [row tile, feature tile]; 4 and 5 hold tiles of x, 6
// and 7 of W.
#define FS_LOAD_X(p)                                 \
  _tile_loadd(4, x0 + (at + (p)) * kTileValues, 64); \
  _tile_loadd(5, x1 + (at + (p)) * kTileValues, 64)
#define FS_LOAD_W(p)                                 \
  _tile_loadd(6, w0 + (at + (p)) * kTileValues, 64); \
  _tile_loadd(7, w1 + (at + (p)) * kTileValues, 64)
#define FS_MULTIPLY()      \
  _tile_dpbf16ps(0, 4, 6); \
  _tile_dpbf16ps(1, 4, 7); \
  _tile_dpbf16ps(2, 5, 6); \
  _tile_dpbf16ps(3, 5, 7)

// One block of 32 rows by 32 features over `steps` steps: sums, continued where `add` is true. The
// four pointers are to the tiles' first steps; what is at `next` will be read soon.
template <int kParts>
FS_AMX void MultiplyBlock(const uint16_t* x0, const uint16_t* x1, const uint16_t* w0,
                          const uint16_t* w1, int64_t steps, const uint16_t* next,
                          int64_t next_lines, bool add, float* out, int64_t out_stride) {
  const int64_t bytes = out_stride * static_cast<int64_t>(sizeof(float));
  float* low = out + kTileRows * out_stride;
  if (add) {
    _tile_loadd(0, out, bytes);
    _tile_loadd(1, out + kTileRows, bytes);
    _tile_loadd(2, low, bytes);
    _tile_loadd(3, low + kTileRows, bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t s = 0; s < steps; ++s) {
    const int64_t at = s * kParts;
    for (int64_t i = 0; i < next_lines; ++i) {
      __builtin_prefetch(next + (s * next_lines + i) * 32, 0, 2);
    }
    if constexpr (kParts == 1) {
      FS_LOAD_X(0);
      FS_LOAD_W(0);
      FS_MULTIPLY();
    } else {  // the small products first; each differs from the one before in one factor
      FS_LOAD_X(2);
      FS_LOAD_W(0);
      FS_MULTIPLY();
      FS_LOAD_X(1);
      FS_MULTIPLY();
      FS_LOAD_W(1);
      FS_MULTIPLY();
      FS_LOAD_X(0);
      FS_MULTIPLY();
      FS_LOAD_W(2);
      FS_MULTIPLY();
      FS_LOAD_W(0);
      FS_MULTIPLY();
    }
  }
  _tile_stored(0, out, bytes);
  _tile_stored(1, out + kTileRows, bytes);
  _tile_stored(2, low, bytes);
  _tile_stored(3, low + kTileRows, bytes);
}

bool AskForTiles() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
      __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) {
    return false;
  }
  constexpr unsigned kBfloat16Tiles = 1U << 22;
  constexpr unsigned kTiles = 1U << 24;
  if ((d & kBfloat16Tiles) == 0 || (d & kTiles) == 0) return false;
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

#else

void PackRows(const float*, int64_t, int64_t, int64_t, int, uint16_t*) {}
void PackWeights(const float*, int64_t, int64_t, int64_t, int, uint16_t*) {}
void BeginTiles() {}
void EndTiles() {}
template <int kParts>
void MultiplyBlock(const uint16_t*, const uint16_t*, const uint16_t*, const uint16_t*, int64_t,
                   const uint16_t*, int64_t, bool, float*, int64_t) {}
bool AskForTiles() { return false; }

#endif

// One pass of packed rows over some of the steps of all features.
struct Pass {
  const uint16_t* x;
  const uint16_t* W;
  int64_t n;  // rows
  int64_t m;
  int64_t total_steps;
  int64_t first_step;
  int64_t steps;
  int parts;
  float* out;
  std::atomic<int64_t> next_feature_block{0};

  void Block(int64_t row, int64_t feature) const {
    const int64_t tile = total_steps * parts * kTileValues;
    const int64_t skip = first_step * parts * kTileValues;
    const uint16_t* x0 = x + row / kTileRows * tile + skip;
    const uint16_t* w0 = W + feature / kTileRows * tile + skip;
    // The next features' tiles, a share of them with each block of rows.
    const int64_t row_blocks = TilesOf(n) / 2;
    const int64_t lines = 2 * parts * kTileValues / 32;  // of 64 bytes, for each step
    const int64_t share = (lines + row_blocks - 1) / row_blocks;
    const uint16_t* next = w0 + 2 * tile + row / kBlock * share * steps * 32;
    const auto multiply = [&](float* to, int64_t stride) {
      const auto run = parts == 1 ? MultiplyBlock<1> : MultiplyBlock<3>;
      run(x0, x0 + tile, w0, w0 + tile, steps, next, share, first_step > 0, to, stride);
    };
    float* to = out + row * m + feature;
    const int64_t rows = std::min(kBlock, n - row);
    const int64_t features = std::min(kBlock, m - feature);
    if (rows == kBlock && features == kBlock) return multiply(to, m);
    alignas(64) float edge[kBlock * kBlock] = {};
    for (int64_t r = 0; r < rows; ++r) {
      if (first_step > 0) std::copy_n(to + r * m, features, edge + r * kBlock);
    }
    multiply(edge, kBlock);
    for (int64_t r = 0; r < rows; ++r) std::copy_n(edge + r * kBlock, features, to + r * m);
  }

  // Takes features until none are left. Which thread computes what does not change the result.
  void Run() {
    BeginTiles();
    constexpr int64_t kFeatures = kFeatureBlocksAtOnce * kBlock;
    for (;;) {
      const int64_t begin = next_feature_block.fetch_add(1) * kFeatures;
      if (begin >= m) break;
      for (int64_t f = begin; f < std::min(begin + kFeatures, m); f += kBlock) {
        for (int64_t row = 0; row < n; row += kBlock) Block(row, f);
      }
    }
    EndTiles();
  }
};

}  // namespace

bool AmxProduct::Available() {
  static const bool available = AskForTiles();
  return available;
}

uint64_t AmxProduct::WeightBytes(Factors factors, int64_t m, int64_t d) {
  const uint64_t parts = factors == Factors::kFloat32 ? 3 : 1;
  return static_cast<uint64_t>(TilesOf(m) * StepsOf(d)) * parts * kTileValues * sizeof(uint16_t);
}

AmxProduct::Buffer AmxProduct::Allocate(int64_t n_tiles) {
  constexpr size_t kPage = 4096;
  const size_t bytes = static_cast<size_t>(n_tiles) * kTileValues * sizeof(uint16_t);
  auto* p = static_cast<uint16_t*>(std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage));
  if (p == nullptr) throw std::bad_alloc();
  return Buffer(p);
}

void AmxProduct::SetWeights(const float* W, int64_t m, int64_t d) {
  if (m != m_ || d != d_) {
    m_ = m;
    d_ = d;
    steps_ = StepsOf(d);
    W_.reset();
    W_ = Allocate(TilesOf(m) * steps_ * parts_);
    x_ = Allocate(TilesOf(kRowsAtOnce) * steps_ * parts_);
  }
  ParallelFor(0, TilesOf(m), 2, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      PackWeights(W, i * kTileRows, m, d, parts_, W_.get() + i * steps_ * parts_ * kTileValues);
    }
  });
}

void AmxProduct::Multiply(const float* x, int64_t n, float* out) {
  for (int64_t row = 0; row < n; row += kRowsAtOnce) {
    const int64_t rows = std::min(kRowsAtOnce, n - row);
    ParallelFor(0, TilesOf(rows), 2, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        PackRows(x + row * d_, i * kTileRows, rows, d_, parts_,
                 x_.get() + i * steps_ * parts_ * kTileValues);
      }
    });
    const int64_t steps_at_once = kTilesAtOnce / (kRowsAtOnce / kTileRows) / parts_;
    for (int64_t step = 0; step < steps_; step += steps_at_once) {
      Pass pass{
          x_.get(), W_.get(),      rows, m_, steps_, step, std::min(steps_at_once, steps_ - step),
          parts_,   out + row * m_};
      RunOnThreads(
          ParallelThreads(), [](void* p, int) { static_cast<Pass*>(p)->Run(); }, &pass);
    }
  }
}

}  // namespace featurescope

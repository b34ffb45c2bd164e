// Four queries at a time against 32 keys at a time: the eight running sums of 16 floats stay in
// registers, and a key's or value's cache line is used four times once loaded. Keys are first
// transposed tile by tile, so that the inner loop reads them in order. The softmax is done on whole
// rows of four queries, which fit the first-level cache up to some thousand keys.
#include "server/model/attention_kernel.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "server/model/vector_math.h"

namespace featurescope {
namespace {

constexpr int64_t kRows = 4;   // queries at a time
constexpr int64_t kTile = 32;  // keys at a time, and dimensions of values at a time

// Below this many queries, transposing the keys would cost more than it saves.
constexpr int64_t kFewQueries = 4;

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Softmax without its division: returns the sum that `row` is still to be divided by. `row` has
// room for a multiple of kLanes; what lies before `first` and from `end` on becomes 0.
FS_INLINE float Exponentials(float* row, int64_t first, int64_t end, int64_t n_padded,
                             float soft_cap) {
  Vec x;
  if (soft_cap > 0) {
    for (int64_t j = 0; j < n_padded; j += kLanes) {
      Load(row + j, x);
      SoftCapVec(soft_cap, x);
      Store(x, row + j);
    }
  }
  for (int64_t j = 0; j < first; ++j) row[j] = -std::numeric_limits<float>::infinity();
  for (int64_t j = end; j < n_padded; ++j) row[j] = -std::numeric_limits<float>::infinity();
  Vec maxima;
  Load(row, maxima);
  for (int64_t j = kLanes; j < n_padded; j += kLanes) {
    Load(row + j, x);
    maxima = x > maxima ? x : maxima;
  }
  const float max = Max(maxima);
  Vec sums = {};
  for (int64_t j = 0; j < n_padded; j += kLanes) {
    Load(row + j, x);
    x -= max;
    ExpInPlace(x);
    sums += x;
    Store(x, row + j);
  }
  return Sum(sums);
}

// Keys as [tile][d_head][kTile], values as [key][d_padded], both padded with zeros.
FS_INLINE void PackKeysAndValues(const AttentionSequence& s, int64_t kv_head, int64_t d_head,
                                 int64_t d_padded, AttentionBuffers* buffers) {
  const int64_t n_padded = RoundUp(s.n_keys, kTile);
  buffers->keys.resize(static_cast<size_t>(n_padded * d_head));
  buffers->values.resize(static_cast<size_t>(s.n_keys * d_padded));
  if (n_padded > s.n_keys) {
    std::fill(buffers->keys.end() - kTile * d_head, buffers->keys.end(), 0.0f);
  }
  for (int64_t key = 0; key < s.n_keys; ++key) {
    const float* from = s.k + key * s.k_stride + kv_head * d_head;
    float* to = buffers->keys.data() + key / kTile * kTile * d_head + key % kTile;
    for (int64_t d = 0; d < d_head; ++d) to[d * kTile] = from[d];
  }
  for (int64_t key = 0; key < s.n_keys; ++key) {
    const float* from = s.v + key * s.v_stride + kv_head * d_head;
    float* to = buffers->values.data() + key * d_padded;
    std::copy(from, from + d_head, to);
    std::fill(to + d_head, to + d_padded, 0.0f);
  }
}

// The scores of kRows queries with the keys of one tile, into rows that are `stride` floats apart.
FS_INLINE void TileScores(const float* queries, const float* tile, int64_t d_head, float* scores,
                          int64_t stride) {
  Vec sums[kRows][2] = {};
  Vec k0, k1;
  for (int64_t d = 0; d < d_head; ++d) {
    Load(tile + d * kTile, k0);
    Load(tile + d * kTile + kLanes, k1);
#pragma GCC unroll 4
    for (int64_t r = 0; r < kRows; ++r) {
      const float q = queries[r * d_head + d];
      sums[r][0] += q * k0;
      sums[r][1] += q * k1;
    }
  }
  for (int64_t r = 0; r < kRows; ++r) std::memcpy(scores + r * stride, sums[r], sizeof(sums[r]));
}

// The weighted sums of kTile dimensions of the first n values, into out [kRows, kTile].
FS_INLINE void WeightedValues(const float* weights, int64_t stride, const float* values,
                              int64_t d_padded, int64_t n, float* out) {
  Vec sums[kRows][2] = {};
  Vec v0, v1;
  for (int64_t j = 0; j < n; ++j) {
    Load(values + j * d_padded, v0);
    Load(values + j * d_padded + kLanes, v1);
#pragma GCC unroll 4
    for (int64_t r = 0; r < kRows; ++r) {
      const float w = weights[r * stride + j];
      sums[r][0] += w * v0;
      sums[r][1] += w * v1;
    }
  }
  std::memcpy(out, sums, sizeof(sums));
}

// The first key that a query sees which sees up to, not including, key `end`.
FS_INLINE int64_t FirstVisible(int64_t end, int64_t window) {
  return window > 0 ? std::max<int64_t>(0, end - window) : 0;
}

FS_INLINE void AttendManyQueries(const AttentionSequence& s, const ScoreMaths& maths, int64_t head,
                                 int64_t kv_head, int64_t d_head, AttentionBuffers* buffers) {
  const int64_t d_padded = RoundUp(d_head, kTile);
  const int64_t stride = RoundUp(s.n_keys, kTile);
  PackKeysAndValues(s, kv_head, d_head, d_padded, buffers);
  buffers->queries.resize(static_cast<size_t>(kRows * d_head));
  buffers->weights.resize(static_cast<size_t>(kRows * stride));
  float* queries = buffers->queries.data();
  float* weights = buffers->weights.data();
  for (int64_t row = 0; row < s.n_queries; row += kRows) {
    const int64_t n_rows = std::min(kRows, s.n_queries - row);
    for (int64_t r = 0; r < kRows; ++r) {  // the last row stands in for missing ones
      const float* from = s.q + (row + std::min(r, n_rows - 1)) * s.q_stride + head * d_head;
      for (int64_t d = 0; d < d_head; ++d) queries[r * d_head + d] = from[d] * maths.scale;
    }
    const int64_t first_end = s.n_keys - s.n_queries + row + 1;  // behind what row 0 sees
    const int64_t end = first_end + n_rows - 1;
    const int64_t begin = FirstVisible(first_end, maths.window) / kTile * kTile;
    const int64_t n_padded = RoundUp(end - begin, kTile);
    for (int64_t key = 0; key < n_padded; key += kTile) {
      TileScores(queries, buffers->keys.data() + (begin + key) * d_head, d_head, weights + key,
                 stride);
    }
    float inverse[kRows];
    for (int64_t r = 0; r < kRows; ++r) {
      const int64_t row_end = first_end + std::min(r, n_rows - 1);
      inverse[r] =
          1.0f / Exponentials(weights + r * stride, FirstVisible(row_end, maths.window) - begin,
                              row_end - begin, n_padded, maths.soft_cap);
    }
    for (int64_t d = 0; d < d_head; d += kTile) {
      float out[kRows][kTile];
      WeightedValues(weights, stride, buffers->values.data() + begin * d_padded + d, d_padded,
                     end - begin, out[0]);
      for (int64_t r = 0; r < n_rows; ++r) {
        float* to = s.z + (row + r) * s.z_stride + head * d_head + d;
        for (int64_t i = 0; i < std::min(kTile, d_head - d); ++i) to[i] = out[r][i] * inverse[r];
      }
    }
  }
}

FS_INLINE float Dot(const float* a, const float* b, int64_t n) {
  Vec sums = {};
  Vec x, y;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Load(a + i, x);
    Load(b + i, y);
    sums += x * y;
  }
  float sum = Sum(sums);
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

FS_INLINE void AttendFewQueries(const AttentionSequence& s, const ScoreMaths& maths, int64_t head,
                                int64_t kv_head, int64_t d_head, AttentionBuffers* buffers) {
  buffers->weights.resize(static_cast<size_t>(RoundUp(s.n_keys, kLanes)));
  float* weights = buffers->weights.data();
  for (int64_t row = 0; row < s.n_queries; ++row) {
    const float* q = s.q + row * s.q_stride + head * d_head;
    const int64_t end = s.n_keys - s.n_queries + row + 1;
    const int64_t begin = FirstVisible(end, maths.window);
    const int64_t n = end - begin;
    const float* k = s.k + begin * s.k_stride + kv_head * d_head;
    for (int64_t j = 0; j < n; ++j) weights[j] = Dot(q, k + j * s.k_stride, d_head) * maths.scale;
    const float inverse = 1.0f / Exponentials(weights, 0, n, RoundUp(n, kLanes), maths.soft_cap);
    float* z = s.z + row * s.z_stride + head * d_head;
    std::fill(z, z + d_head, 0.0f);
    const float* v = s.v + begin * s.v_stride + kv_head * d_head;
    for (int64_t j = 0; j < n; ++j, v += s.v_stride) {
      const float weight = weights[j] * inverse;
      for (int64_t d = 0; d < d_head; ++d) z[d] += weight * v[d];
    }
  }
}

FS_INLINE void AttendHeadLoop(const AttentionSequence& sequence, const ScoreMaths& maths,
                              int64_t head, int64_t kv_head, int64_t d_head,
                              AttentionBuffers* buffers) {
  if (sequence.n_queries < kFewQueries) {
    AttendFewQueries(sequence, maths, head, kv_head, d_head, buffers);
    return;
  }
  // Keys that no query sees are not packed.
  AttentionSequence s = sequence;
  const int64_t unseen = FirstVisible(s.n_keys - s.n_queries + 1, maths.window);
  s.k += unseen * s.k_stride;
  s.v += unseen * s.v_stride;
  s.n_keys -= unseen;
  AttendManyQueries(s, maths, head, kv_head, d_head, buffers);
}

}  // namespace

FS_FOR_EACH_CPU(AttendHead,
                (const AttentionSequence& sequence, const ScoreMaths& maths, int64_t head,
                 int64_t kv_head, int64_t d_head, AttentionBuffers* buffers),
                (sequence, maths, head, kv_head, d_head, buffers))

}  // namespace featurescope

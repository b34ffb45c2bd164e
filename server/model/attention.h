// Causal attention over packed sequences.
//
// On the CPU one fused loop in float32, which never writes scores out and skips what the mask
// hides; elsewhere, and where somebody wants to see scores or patterns, LibTorch operators.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "server/model/attention_kernel.h"
#include "server/tensor/torch.h"

namespace featurescope {

// One sequence, or several of equal length. The queries are the last of the keys' tokens.
struct AttentionGroup {
  int64_t n_sequences = 1;
  torch::Tensor q;  // [n_sequences * n_queries, head, d_head]
  torch::Tensor k;  // [n_sequences * n_keys, kv_head, d_head]
  torch::Tensor v;  // [n_sequences * n_keys, kv_head, d_head]
  torch::Tensor z;  // [n_sequences * n_queries, head, d_head], contiguous: the result

  int64_t n_queries() const { return q.size(0) / n_sequences; }
  int64_t n_keys() const { return k.size(0) / n_sequences; }
};

// Whether FusedAttention can compute these: float32 or bfloat16 on the CPU.
bool CanFuseAttention(const torch::Tensor& q);

// z = softmax(mask(cap(scale q k^T))) v for every group. Head h uses kv head
// h / (heads / kv_heads). The result does not depend on the number of threads.
//
//   REQUIRES: CanFuseAttention(q) of all groups
void FusedAttention(const std::vector<AttentionGroup>& groups, const ScoreMaths& maths);

// The same for one group by LibTorch operators, in float32, too. `on_scores` (masked with -inf) and
// `on_pattern` may be null; they see and may replace [n_sequences, head, n_queries, n_keys]. Where
// both are null, there are never more than about `max_scores` scores at a time.
using AttentionFn = std::function<void(torch::Tensor&)>;
constexpr int64_t kMaxScores = int64_t{1} << 27;  // 512 MiB
void ComposedAttention(const AttentionGroup& group, const ScoreMaths& maths,
                       const AttentionFn& on_scores, const AttentionFn& on_pattern,
                       int64_t max_scores = kMaxScores);

}  // namespace featurescope

#include "server/model/attention.h"

#include <algorithm>
#include <limits>

#include "server/model/elementwise.h"
#include "server/tensor/parallel.h"

namespace featurescope {
namespace {

// Multiplications that are worth waking a thread.
constexpr int64_t kLeastWork = 65536;

// float32, heads' values one behind the other; tokens may be any distance apart.
torch::Tensor WithDenseHeads(const torch::Tensor& t) {
  if (t.scalar_type() != torch::kFloat32) return t.to(torch::kFloat32).contiguous();
  return t.stride(2) == 1 && t.stride(1) == t.size(2) ? t : t.contiguous();
}

}  // namespace

bool CanFuseAttention(const torch::Tensor& q) {
  return q.device().is_cpu() &&
         (q.scalar_type() == torch::kFloat32 || q.scalar_type() == torch::kBFloat16);
}

void FusedAttention(const std::vector<AttentionGroup>& groups, const ScoreMaths& maths) {
  if (groups.empty()) return;
  std::vector<torch::Tensor> keep_alive;
  std::vector<torch::Tensor> results;  // float32
  std::vector<AttentionSequence> sequences;
  for (const AttentionGroup& group : groups) {
    const torch::Tensor q = WithDenseHeads(group.q);
    const torch::Tensor k = WithDenseHeads(group.k);
    const torch::Tensor v = WithDenseHeads(group.v);
    const torch::Tensor z = group.z.scalar_type() == torch::kFloat32
                                ? group.z
                                : torch::empty(group.z.sizes(), torch::kFloat32);
    keep_alive.insert(keep_alive.end(), {q, k, v});
    results.push_back(z);
    const int64_t n_queries = group.n_queries();
    const int64_t n_keys = group.n_keys();
    for (int64_t i = 0; i < group.n_sequences; ++i) {
      AttentionSequence sequence;
      sequence.q = q.data_ptr<float>() + i * n_queries * q.stride(0);
      sequence.k = k.data_ptr<float>() + i * n_keys * k.stride(0);
      sequence.v = v.data_ptr<float>() + i * n_keys * v.stride(0);
      sequence.z = z.data_ptr<float>() + i * n_queries * z.stride(0);
      sequence.q_stride = q.stride(0);
      sequence.k_stride = k.stride(0);
      sequence.v_stride = v.stride(0);
      sequence.z_stride = z.stride(0);
      sequence.n_queries = n_queries;
      sequence.n_keys = n_keys;
      sequences.push_back(sequence);
    }
  }
  const int64_t n_heads = groups[0].q.size(1);
  const int64_t n_kv_heads = groups[0].k.size(1);
  const int64_t d_head = groups[0].q.size(2);
  const auto n_jobs = static_cast<int64_t>(sequences.size()) * n_heads;
  int64_t work = 1;  // multiplications, about, of one head
  for (const AttentionSequence& s : sequences) work += s.n_queries * s.n_keys * d_head;
  const int64_t grain = std::max<int64_t>(1, kLeastWork * std::ssize(sequences) / work);
  ParallelFor(0, n_jobs, grain, [&](int64_t begin, int64_t end) {
    AttentionBuffers buffers;
    for (int64_t job = begin; job < end; ++job) {
      const int64_t head = job % n_heads;
      AttendHead(sequences[static_cast<size_t>(job / n_heads)], maths, head,
                 head / (n_heads / n_kv_heads), d_head, &buffers);
    }
  });
  for (size_t i = 0; i < groups.size(); ++i) {
    if (!results[i].is_same(groups[i].z)) groups[i].z.copy_(results[i]);
  }
}

namespace {

// Queries [begin, begin + n) of each sequence of the group; keys and values float32, as
// [n_sequences, kv_head, d_head, key] and [n_sequences, kv_head, key, d_head].
void ComposeBlock(const AttentionGroup& group, const torch::Tensor& k, const torch::Tensor& v,
                  int64_t begin, int64_t n, const ScoreMaths& maths, const AttentionFn& on_scores,
                  const AttentionFn& on_pattern) {
  const int64_t b = group.n_sequences;
  const int64_t m = k.size(3);
  const int64_t n_heads = group.q.size(1);
  const int64_t n_kv_heads = k.size(1);
  const int64_t d_head = group.q.size(2);
  const int64_t per_kv_head = n_heads / n_kv_heads;

  // The query heads of one kv head become more rows of one product.
  const torch::Tensor q = group.q.view({b, -1, n_kv_heads, per_kv_head, d_head})
                              .narrow(1, begin, n)
                              .to(torch::kFloat32)
                              .permute({0, 2, 3, 1, 4})
                              .reshape({b, n_kv_heads, per_kv_head * n, d_head});
  torch::Tensor scores = torch::matmul(q, k).reshape({b, n_heads, n, m});
  scores.mul_(static_cast<double>(maths.scale));
  if (maths.soft_cap > 0) SoftCapInPlace(static_cast<double>(maths.soft_cap), scores);
  const int64_t own = m - group.n_queries() + begin;  // the key of the first query's own token
  const bool has_window = maths.window > 0 && maths.window < m;
  if (own + 1 < m || has_window) {
    const torch::Tensor all =
        torch::ones({n, m}, torch::TensorOptions(torch::kBool).device(q.device()));
    torch::Tensor hidden = all.triu(own + 1);
    if (has_window) hidden = hidden.logical_or(all.tril(own - maths.window));
    scores.masked_fill_(hidden, -std::numeric_limits<float>::infinity());
  }
  if (on_scores) on_scores(scores);
  torch::Tensor pattern = torch::softmax(scores, -1);
  // A query whose every key an editor has hidden attends to nothing, as in TransformerLens.
  if (on_scores) pattern = torch::where(scores.isneginf().all(-1, true), 0.0, pattern);
  if (on_pattern) on_pattern(pattern);
  const torch::Tensor z = torch::matmul(pattern.reshape({b, n_kv_heads, per_kv_head * n, m}), v);
  group.z.view({b, -1, n_kv_heads, per_kv_head, d_head})
      .narrow(1, begin, n)
      .copy_(z.reshape({b, n_kv_heads, per_kv_head, n, d_head}).permute({0, 3, 1, 2, 4}));
}

}  // namespace

void ComposedAttention(const AttentionGroup& group, const ScoreMaths& maths,
                       const AttentionFn& on_scores, const AttentionFn& on_pattern,
                       int64_t max_scores) {
  const int64_t b = group.n_sequences;
  const int64_t n = group.n_queries();
  const int64_t m = group.n_keys();
  const int64_t n_kv_heads = group.k.size(1);
  const int64_t d_head = group.k.size(2);
  const torch::Tensor k =
      group.k.to(torch::kFloat32).reshape({b, m, n_kv_heads, d_head}).permute({0, 2, 3, 1});
  const torch::Tensor v =
      group.v.to(torch::kFloat32).reshape({b, m, n_kv_heads, d_head}).permute({0, 2, 1, 3});
  int64_t block = n;  // whoever looks at scores wants them whole
  if (!on_scores && !on_pattern) {
    block = std::clamp<int64_t>(max_scores / (b * group.q.size(1) * m), 1, n);
  }
  for (int64_t begin = 0; begin < n; begin += block) {
    ComposeBlock(group, k, v, begin, std::min(block, n - begin), maths, on_scores, on_pattern);
  }
}

}  // namespace featurescope

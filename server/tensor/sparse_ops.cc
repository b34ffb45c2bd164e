#include "server/tensor/sparse_ops.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "server/tensor/parallel.h"
#include "server/tensor/sparse_kernels.h"

namespace featurescope {
namespace {

constexpr int64_t kRowGrain = 8;
constexpr int64_t kColumnGrain = 64;
// Entries whose rows of W are gathered at a time, off the CPU.
constexpr int64_t kGatheredEntries = 1 << 16;

SparseRows TopKPositiveComposed(const torch::Tensor& pre, int64_t k, const torch::Tensor& bias) {
  torch::Tensor scores = pre.to(torch::kFloat32);
  if (bias.defined()) scores = scores + bias;
  auto [values, columns] = scores.topk(k, /*dim=*/1, /*largest=*/true, /*sorted=*/false);
  const torch::Tensor order = columns.argsort(1, /*descending=*/false);
  columns = columns.gather(1, order);
  values = values.gather(1, order);
  const torch::Tensor mask = values > 0;
  torch::Tensor offsets = torch::zeros({pre.size(0) + 1}, pre.options().dtype(torch::kInt64));
  offsets.slice(0, 1).copy_(mask.sum(1).cumsum(0));
  return {offsets, columns.masked_select(mask).to(torch::kInt32), values.masked_select(mask),
          pre.size(1)};
}

// The row of each entry, int64 [nnz].
torch::Tensor RowOfEntry(const torch::Tensor& offsets) {
  const torch::Tensor counts = offsets.diff();
  return torch::repeat_interleave(torch::arange(counts.numel(), counts.options()), counts);
}

// Pushes rows of `stride` places, of which counts[i] are used, together. Returns their total.
int64_t Compact(int64_t n, int64_t stride, int64_t* offsets, int32_t* indices, float* values) {
  for (int64_t i = 0; i < n; ++i) {
    const int64_t count = offsets[i + 1];
    if (offsets[i] != i * stride) {
      std::copy(indices + i * stride, indices + i * stride + count, indices + offsets[i]);
      std::copy(values + i * stride, values + i * stride + count, values + offsets[i]);
    }
    offsets[i + 1] = offsets[i] + count;
  }
  return offsets[n];
}

}  // namespace

SparseRows TopKPositive(const torch::Tensor& pre, int64_t k, const torch::Tensor& bias) {
  if (!UsesLoops(pre)) return TopKPositiveComposed(pre, k, bias);
  const int64_t n = pre.size(0);
  const int64_t m = pre.size(1);
  SparseRows result;
  result.n_cols = m;
  result.row_offsets = torch::zeros({n + 1}, torch::kInt64);
  result.indices = torch::empty({n * k}, torch::kInt32);
  result.values = torch::empty({n * k}, torch::kFloat32);
  auto* offsets = result.row_offsets.data_ptr<int64_t>();
  auto* indices = result.indices.data_ptr<int32_t>();
  auto* values = result.values.data_ptr<float>();
  const bool is_bfloat16 = pre.scalar_type() == torch::kBFloat16;
  const float* data = is_bfloat16 ? nullptr : pre.data_ptr<float>();
  const at::BFloat16* half = is_bfloat16 ? pre.data_ptr<at::BFloat16>() : nullptr;
  const float* add = bias.defined() ? bias.data_ptr<float>() : nullptr;
  const RowKernels& kernels = BestRowKernels();
  ParallelFor(0, n, kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<uint64_t> scratch(TopKScratch(k));
    std::vector<float> converted(is_bfloat16 ? m : 0);
    for (int64_t i = begin; i < end; ++i) {
      const float* row = is_bfloat16 ? converted.data() : data + i * m;
      if (is_bfloat16) std::copy(half + i * m, half + (i + 1) * m, converted.data());
      offsets[i + 1] =
          kernels.top_k_positive(row, add, m, k, scratch.data(), indices + i * k, values + i * k);
    }
  });
  const int64_t nnz = Compact(n, k, offsets, indices, values);
  result.indices = result.indices.slice(0, 0, nnz);
  result.values = result.values.slice(0, 0, nnz);
  return result;
}

SparseRows KeepEntries(const SparseRows& sparse, const torch::Tensor& mask) {
  torch::Tensor kept_before = torch::zeros({sparse.nnz() + 1}, sparse.row_offsets.options());
  kept_before.slice(0, 1).copy_(mask.cumsum(0));
  return {kept_before.index_select(0, sparse.row_offsets), sparse.indices.masked_select(mask),
          sparse.values.masked_select(mask), sparse.n_cols};
}

SparseRows LargestEntries(const SparseRows& sparse, int64_t keep) {
  if (sparse.nnz() <= keep) return sparse;
  float last = 0;
  if (UsesLoops(sparse.values)) {
    const float* values = sparse.values.data_ptr<float>();
    std::vector<float> copy(values, values + sparse.nnz());
    std::nth_element(copy.begin(), copy.begin() + (keep - 1), copy.end(), std::greater<>());
    last = copy[keep - 1];
  } else {
    last = std::get<0>(sparse.values.topk(keep, 0, true, false)).min().item<float>();
  }
  const torch::Tensor above = sparse.values.gt(last);
  const torch::Tensor equal = sparse.values.eq(last);
  const int64_t of_equal = keep - above.sum().item<int64_t>();
  return KeepEntries(sparse, above.logical_or(equal.logical_and(equal.cumsum(0).le(of_equal))));
}

torch::Tensor SparseTimesDense(const SparseRows& acts, const torch::Tensor& W) {
  if (!UsesLoops(W)) {
    return std::get<0>(torch::embedding_bag(
        W, acts.indices.to(torch::kInt64), acts.row_offsets, /*scale_grad_by_freq=*/false,
        /*mode=*/0, /*sparse=*/false, acts.values, /*include_last_offset=*/true));
  }
  const int64_t d = W.size(1);
  torch::Tensor out = torch::zeros({acts.n_rows(), d}, torch::kFloat32);
  const int64_t* offsets = acts.row_offsets.data_ptr<int64_t>();
  const int32_t* indices = acts.indices.data_ptr<int32_t>();
  const float* values = acts.values.data_ptr<float>();
  const float* weights = W.data_ptr<float>();
  auto* result = out.data_ptr<float>();
  const RowKernels& kernels = BestRowKernels();
  ParallelFor(0, acts.n_rows(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      kernels.add_weighted_rows(weights, d, indices + offsets[i], values + offsets[i],
                                offsets[i + 1] - offsets[i], result + i * d);
    }
  });
  return out;
}

torch::Tensor SampledProduct(const SparseRows& acts, const torch::Tensor& g,
                             const torch::Tensor& W) {
  if (!UsesLoops(W)) {
    const torch::Tensor rows = RowOfEntry(acts.row_offsets);
    std::vector<torch::Tensor> parts = {torch::empty({0}, g.options())};
    for (int64_t begin = 0; begin < acts.nnz(); begin += kGatheredEntries) {
      const int64_t end = std::min(begin + kGatheredEntries, acts.nnz());
      parts.push_back((g.index_select(0, rows.slice(0, begin, end)) *
                       W.index_select(0, acts.indices.slice(0, begin, end)))
                          .sum(1));
    }
    return torch::cat(parts);
  }
  const int64_t d = W.size(1);
  torch::Tensor out = torch::empty({acts.nnz()}, torch::kFloat32);
  const int64_t* offsets = acts.row_offsets.data_ptr<int64_t>();
  const int32_t* indices = acts.indices.data_ptr<int32_t>();
  const float* weights = W.data_ptr<float>();
  const float* gradient = g.data_ptr<float>();
  auto* result = out.data_ptr<float>();
  const RowKernels& kernels = BestRowKernels();
  ParallelFor(0, acts.n_rows(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      kernels.row_dots(weights, d, indices + offsets[i], offsets[i + 1] - offsets[i],
                       gradient + i * d, result + offsets[i]);
    }
  });
  return out;
}

void AddTransposedProduct(const ColumnOrder& columns, const torch::Tensor& values,
                          const torch::Tensor& g, torch::Tensor& out) {
  const int64_t m = out.size(0);
  const int64_t d = out.size(1);
  if (!UsesLoops(out)) {
    const torch::Tensor column_of = RowOfEntry(columns.column_offsets);
    const torch::Tensor ordered = values.index_select(0, columns.entries);
    for (int64_t begin = 0; begin < ordered.numel(); begin += kGatheredEntries) {
      const int64_t end = std::min(begin + kGatheredEntries, ordered.numel());
      out.index_add_(0, column_of.slice(0, begin, end),
                     g.index_select(0, columns.rows.slice(0, begin, end)) *
                         ordered.slice(0, begin, end).unsqueeze(1));
    }
    return;
  }
  const int64_t* offsets = columns.column_offsets.data_ptr<int64_t>();
  const int32_t* rows = columns.rows.data_ptr<int32_t>();
  const int64_t* entries = columns.entries.data_ptr<int64_t>();
  const float* weights = values.data_ptr<float>();
  const float* gradient = g.data_ptr<float>();
  auto* result = out.data_ptr<float>();
  const RowKernels& kernels = BestRowKernels();
  ParallelFor(0, m, kColumnGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> ordered;
    for (int64_t c = begin; c < end; ++c) {
      const int64_t first = offsets[c];
      const int64_t n = offsets[c + 1] - first;
      ordered.resize(n);
      for (int64_t i = 0; i < n; ++i) ordered[i] = weights[entries[first + i]];
      kernels.add_weighted_rows(gradient, d, rows + first, ordered.data(), n, result + c * d);
    }
  });
}

}  // namespace featurescope

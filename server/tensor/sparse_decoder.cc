#include "server/tensor/sparse_decoder.h"

#include <algorithm>

#include "server/tensor/parallel.h"
#include "server/tensor/sparse_kernels.h"
#include "server/tensor/sparse_ops.h"

namespace featurescope {
namespace {

constexpr int64_t kRowGrain = 32;
constexpr int64_t kColumnGrain = 512;
// Entries whose rows are gathered at a time, off the CPU.
constexpr int64_t kGatheredEntries = 1 << 16;

struct RowLoop {
  const RowKernels& kernels;
  const NestedDecoder& decoder;
  const int64_t* offsets;
  const int32_t* indices;
  const float* values;
  const float* target;
  const float* offset;
  float* g;
  double* sums;
  float* dots;  // may be null
  int64_t n;
  int64_t d;

  // The end of the entries from `i` to `last` whose features lie below `group_end`.
  int64_t GroupEnd(int64_t i, int64_t last, int64_t group_end) const {
    if (group_end == decoder.group_ends.back()) return last;
    return std::lower_bound(indices + i, indices + last, static_cast<int32_t>(group_end)) - indices;
  }

  void Run(int64_t row) const {
    const float* W = decoder.W.data_ptr<float>();
    const float* t = target + row * d;
    const int64_t groups = decoder.n_groups();
    const int64_t first = offsets[row];
    const int64_t last = offsets[row + 1];
    const auto g_of = [&](int64_t group) { return g + (group * n + row) * d; };
    double weighted = 0;
    int64_t at = first;
    for (int64_t i = 0; i < groups; ++i) {
      float* r = g_of(i);
      kernels.scale(i == 0 ? -1.0F : 1.0F, i == 0 ? t : g_of(i - 1), r, d);
      const int64_t end = GroupEnd(at, last, decoder.group_ends[i]);
      kernels.add_weighted_rows(W, d, indices + at, values + at, end - at, r);
      at = end;
      weighted += decoder.weights[i] * kernels.dot(r, r, d);
    }
    WriteSums(row, g_of(groups - 1), weighted);
    for (int64_t i = groups - 1; i >= 0; --i) {
      kernels.scale(static_cast<float>(2 * decoder.weights[i]), g_of(i), g_of(i), d);
      if (i + 1 < groups) kernels.axpy(1.0F, g_of(i + 1), g_of(i), d);
    }
    if (dots == nullptr) return;
    at = first;
    for (int64_t i = 0; i < groups; ++i) {
      const int64_t end = GroupEnd(at, last, decoder.group_ends[i]);
      kernels.row_dots(W, d, indices + at, end - at, g_of(i), dots + at);
      at = end;
    }
  }

  void WriteSums(int64_t row, const float* r, double weighted) const {
    const float* t = target + row * d;
    const double t_offset = kernels.dot(t, offset, d);
    double* out = sums + row * kDecoderSums;
    out[kSquaredError] = kernels.dot(r, r, d);
    out[kSquaredTarget] =
        kernels.dot(t, t, d) + 2 * t_offset + static_cast<double>(kernels.dot(offset, offset, d));
    out[kTargetTimesError] = kernels.dot(t, r, d) + static_cast<double>(kernels.dot(offset, r, d));
    out[kWeightedError] = weighted;
  }
};

// The group of each feature in `columns`, int64.
torch::Tensor GroupOf(const torch::Tensor& columns, const std::vector<int64_t>& group_ends) {
  torch::Tensor group = torch::zeros_like(columns, columns.options().dtype(torch::kInt64));
  for (size_t i = 0; i + 1 < group_ends.size(); ++i) group.add_(columns.ge(group_ends[i]));
  return group;
}

void DecodeErrorsComposed(const NestedDecoder& decoder, const SparseRows& acts,
                          const torch::Tensor& target, const torch::Tensor& offset, int64_t begin,
                          int64_t end, DecoderErrors* errors) {
  const int64_t n = acts.n_rows();
  const int64_t groups = decoder.n_groups();
  const int64_t first = acts.row_offsets[begin].item<int64_t>();
  const SparseRows part = acts.Slice(begin, end);
  const torch::Tensor group = GroupOf(part.indices, decoder.group_ends);
  const torch::Tensor t = target.slice(0, begin, end);
  const auto g_of = [&](int64_t i) { return errors->g.slice(0, i * n + begin, i * n + end); };
  torch::Tensor sums = errors->sums.slice(0, begin, end);
  torch::Tensor r = -t;
  sums.select(1, kWeightedError).zero_();
  for (int64_t i = 0; i < groups; ++i) {
    r.add_(SparseTimesDense(groups == 1 ? part : KeepEntries(part, group.eq(i)), decoder.W));
    g_of(i).copy_(r);
    sums.select(1, kWeightedError).add_(r.pow(2).sum(1), decoder.weights[i]);
  }
  const torch::Tensor y = t + offset;
  sums.select(1, kSquaredError).copy_(r.pow(2).sum(1));
  sums.select(1, kSquaredTarget).copy_(y.pow(2).sum(1));
  sums.select(1, kTargetTimesError).copy_((y * r).sum(1));
  for (int64_t i = groups - 1; i >= 0; --i) {
    g_of(i).mul_(2 * decoder.weights[i]);
    if (i + 1 < groups) g_of(i).add_(g_of(i + 1));
  }
  if (!errors->dots.defined()) return;
  const torch::Tensor counts = part.row_offsets.diff();
  const torch::Tensor rows =
      torch::repeat_interleave(torch::arange(begin, end, counts.options()), counts) + group * n;
  for (int64_t from = 0; from < part.nnz(); from += kGatheredEntries) {
    const int64_t to = std::min(from + kGatheredEntries, part.nnz());
    errors->dots.slice(0, first + from, first + to)
        .copy_((errors->g.index_select(0, rows.slice(0, from, to)) *
                decoder.W.index_select(0, part.indices.slice(0, from, to)))
                   .sum(1));
  }
}

}  // namespace

void DecodeErrors(const NestedDecoder& decoder, const SparseRows& acts, const torch::Tensor& target,
                  const torch::Tensor& offset, int64_t begin, int64_t end, DecoderErrors* errors) {
  if (!UsesLoops(decoder.W)) {
    DecodeErrorsComposed(decoder, acts, target, offset, begin, end, errors);
    return;
  }
  const RowLoop loop = {BestRowKernels(),
                        decoder,
                        acts.row_offsets.data_ptr<int64_t>(),
                        acts.indices.data_ptr<int32_t>(),
                        acts.values.data_ptr<float>(),
                        target.data_ptr<float>(),
                        offset.data_ptr<float>(),
                        errors->g.data_ptr<float>(),
                        errors->sums.data_ptr<double>(),
                        errors->dots.defined() ? errors->dots.data_ptr<float>() : nullptr,
                        acts.n_rows(),
                        decoder.W.size(1)};
  ParallelFor(begin, end, kRowGrain, [&](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; ++row) loop.Run(row);
  });
}

torch::Tensor GradientRows(const ColumnOrder& columns, const std::vector<int64_t>& group_ends,
                           int64_t n_rows) {
  if (group_ends.size() == 1) return columns.rows;
  torch::Tensor rows = columns.rows.clone();
  for (size_t i = 0; i + 1 < group_ends.size(); ++i) {
    const int64_t from = columns.column_offsets[group_ends[i]].item<int64_t>();
    rows.slice(0, from).add_(n_rows);
  }
  return rows;
}

void AddColumnSums(const ColumnOrder& columns, const torch::Tensor& values, torch::Tensor& out) {
  const int64_t m = out.numel();
  if (!UsesLoops(out)) {
    const torch::Tensor counts = columns.column_offsets.diff();
    const torch::Tensor column_of =
        torch::repeat_interleave(torch::arange(m, counts.options()), counts);
    out.index_add_(0, column_of, values.index_select(0, columns.entries));
    return;
  }
  const int64_t* offsets = columns.column_offsets.data_ptr<int64_t>();
  const int64_t* entries = columns.entries.data_ptr<int64_t>();
  const float* of_entry = values.data_ptr<float>();
  auto* result = out.data_ptr<float>();
  ParallelFor(0, m, kColumnGrain, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      double sum = 0;
      for (int64_t i = offsets[c]; i < offsets[c + 1]; ++i) sum += of_entry[entries[i]];
      result[c] += static_cast<float>(sum);
    }
  });
}

}  // namespace featurescope

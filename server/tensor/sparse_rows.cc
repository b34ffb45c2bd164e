#include "server/tensor/sparse_rows.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

#include "server/base/status.h"
#include "server/tensor/parallel.h"
#include "server/tensor/sparse_kernels.h"

namespace featurescope {
namespace {

std::atomic<bool> always_operators{false};

// The row of each entry, int64 [nnz].
torch::Tensor RowOfEntry(const SparseRows& sparse) {
  const torch::Tensor counts = sparse.row_offsets.diff();
  return torch::repeat_interleave(torch::arange(sparse.n_rows(), counts.options()), counts);
}

// Turns counts[1..n] (counts[0] is 0) into offsets in place; returns their total.
int64_t AccumulateOffsets(int64_t* counts, int64_t n) {
  for (int64_t i = 0; i < n; ++i) counts[i + 1] += counts[i];
  return counts[n];
}

// Some rows' positive entries, one row after the other.
struct Collected {
  std::vector<int32_t> indices;
  std::vector<float> values;
};

// Reads every row once: groups of rows collect into buffers of their own, which are then joined.
SparseRows CollectPositive(const float* data, const float* bias, int64_t n, int64_t m) {
  constexpr int64_t kRowsPerGroup = 16;
  const RowKernels& kernels = BestRowKernels();
  SparseRows result;
  result.n_cols = m;
  result.row_offsets = torch::zeros({n + 1}, torch::kInt64);
  auto* offsets = result.row_offsets.data_ptr<int64_t>();
  std::vector<Collected> groups((n + kRowsPerGroup - 1) / kRowsPerGroup);
  const auto n_groups = static_cast<int64_t>(groups.size());
  ParallelFor(0, n_groups, 1, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> indices(m);
    std::vector<float> values(m);
    for (int64_t group = begin; group < end; ++group) {
      const int64_t last = std::min((group + 1) * kRowsPerGroup, n);
      Collected& out = groups[group];
      for (int64_t i = group * kRowsPerGroup; i < last; ++i) {
        const int64_t count =
            kernels.positive(data + i * m, bias, m, indices.data(), values.data());
        out.indices.insert(out.indices.end(), indices.begin(), indices.begin() + count);
        out.values.insert(out.values.end(), values.begin(), values.begin() + count);
        offsets[i + 1] = count;
      }
    }
  });
  const int64_t nnz = AccumulateOffsets(offsets, n);
  result.indices = torch::empty({nnz}, torch::kInt32);
  result.values = torch::empty({nnz}, torch::kFloat32);
  auto* indices = result.indices.data_ptr<int32_t>();
  auto* values = result.values.data_ptr<float>();
  ParallelFor(0, n_groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) {
      const int64_t at = offsets[group * kRowsPerGroup];
      std::copy(groups[group].indices.begin(), groups[group].indices.end(), indices + at);
      std::copy(groups[group].values.begin(), groups[group].values.end(), values + at);
    }
  });
  return result;
}

}  // namespace

bool UsesLoops(const torch::Tensor& tensor) {
  return tensor.is_cpu() && !always_operators.load(std::memory_order_relaxed);
}

void ComposeOfOperators(bool always) { always_operators.store(always); }

SparseRows SparseRows::To(torch::Device to) const {
  return {row_offsets.to(to), indices.to(to), values.to(to), n_cols};
}

SparseRows SparseRows::Slice(int64_t begin, int64_t end) const {
  const torch::Tensor offsets = row_offsets.slice(0, begin, end + 1);
  const int64_t first = offsets[0].item<int64_t>();
  const int64_t last = offsets[end - begin].item<int64_t>();
  return {offsets - first, indices.slice(0, first, last), values.slice(0, first, last), n_cols};
}

torch::Tensor SparseRows::ToDense() const {
  torch::Tensor dense = torch::zeros({n_rows(), n_cols}, values.options());
  if (nnz() > 0) {
    dense.view({-1}).index_put_({RowOfEntry(*this) * n_cols + indices.to(torch::kInt64)}, values);
  }
  return dense;
}

absl::Status SparseRows::Validate() const {
  if (!row_offsets.defined() || !indices.defined() || !values.defined() ||
      row_offsets.scalar_type() != torch::kInt64 || indices.scalar_type() != torch::kInt32 ||
      values.scalar_type() != torch::kFloat32) {
    return InvalidArgument("sparse rows need int64 offsets, int32 indices and float32 values");
  }
  if (row_offsets.dim() != 1 || row_offsets.numel() < 1 || indices.dim() != 1 ||
      values.dim() != 1 || indices.numel() != values.numel()) {
    return InvalidArgument("sparse rows: ", row_offsets.numel(), " offsets, ", indices.numel(),
                           " indices and ", values.numel(), " values do not fit together");
  }
  const torch::Tensor offsets_cpu = row_offsets.cpu().contiguous();
  const torch::Tensor indices_cpu = indices.cpu().contiguous();
  const int64_t* offsets = offsets_cpu.data_ptr<int64_t>();
  const int32_t* columns = indices_cpu.data_ptr<int32_t>();
  if (offsets[0] != 0 || offsets[n_rows()] != nnz()) {
    return InvalidArgument("sparse rows: offsets run from ", offsets[0], " to ", offsets[n_rows()],
                           " instead of 0 to ", nnz());
  }
  for (int64_t row = 0; row < n_rows(); ++row) {
    if (offsets[row + 1] < offsets[row] || offsets[row + 1] > nnz()) {
      return InvalidArgument("sparse rows: row ", row, " ends at ", offsets[row + 1], ", outside [",
                             offsets[row], ", ", nnz(), "]");
    }
    int64_t previous = -1;
    for (int64_t i = offsets[row]; i < offsets[row + 1]; ++i) {
      if (columns[i] < 0 || columns[i] >= n_cols) {
        return InvalidArgument("sparse rows: row ", row, " has index ", columns[i],
                               ", out of range [0, ", n_cols, ")");
      }
      if (columns[i] <= previous) {
        return InvalidArgument("sparse rows: row ", row, " has index ", columns[i], " after ",
                               previous, "; indices must rise");
      }
      previous = columns[i];
    }
  }
  return absl::OkStatus();
}

SparseRows PositiveEntries(const torch::Tensor& dense, const torch::Tensor& bias) {
  const int64_t n = dense.size(0);
  const int64_t m = dense.size(1);
  if (!UsesLoops(dense)) {
    const torch::Tensor biased = bias.defined() ? dense + bias : dense;
    const torch::Tensor mask = biased > 0;
    const torch::Tensor places = mask.nonzero();  // [nnz, 2], row by row
    torch::Tensor offsets = torch::zeros({n + 1}, dense.options().dtype(torch::kInt64));
    offsets.slice(0, 1).copy_(mask.sum(1).cumsum(0));
    return {offsets, places.select(1, 1).to(torch::kInt32), biased.masked_select(mask), m};
  }
  return CollectPositive(dense.data_ptr<float>(), bias.defined() ? bias.data_ptr<float>() : nullptr,
                         n, m);
}

SparseRows Concatenate(const std::vector<SparseRows>& parts) {
  if (parts.size() == 1) return parts[0];
  std::vector<torch::Tensor> offsets;
  std::vector<torch::Tensor> indices;
  std::vector<torch::Tensor> values;
  int64_t total = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    // Each part but the first leaves out its leading zero.
    offsets.push_back(parts[i].row_offsets.slice(0, i == 0 ? 0 : 1) + total);
    indices.push_back(parts[i].indices);
    values.push_back(parts[i].values);
    total += parts[i].nnz();
  }
  return {torch::cat(offsets), torch::cat(indices), torch::cat(values), parts[0].n_cols};
}

ColumnOrder OrderByColumn(const SparseRows& sparse) {
  const int64_t nnz = sparse.nnz();
  const int64_t m = sparse.n_cols;
  if (!UsesLoops(sparse.values)) {
    const torch::Tensor columns = sparse.indices.to(torch::kInt64);
    // The key holds column and entry, so that any sort is a stable one.
    const torch::Tensor key = columns * nnz + torch::arange(nnz, columns.options());
    const torch::Tensor entries = std::get<0>(key.sort()).remainder(std::max<int64_t>(nnz, 1));
    torch::Tensor offsets = torch::zeros({m + 1}, columns.options());
    offsets.slice(0, 1).copy_(torch::bincount(columns, {}, m).cumsum(0));
    return {offsets, RowOfEntry(sparse).index_select(0, entries).to(torch::kInt32), entries};
  }
  ColumnOrder order;
  order.column_offsets = torch::zeros({m + 1}, torch::kInt64);
  order.rows = torch::empty({nnz}, torch::kInt32);
  order.entries = torch::empty({nnz}, torch::kInt64);
  auto* offsets = order.column_offsets.data_ptr<int64_t>();
  auto* rows = order.rows.data_ptr<int32_t>();
  auto* entries = order.entries.data_ptr<int64_t>();
  const int64_t* row_offsets = sparse.row_offsets.data_ptr<int64_t>();
  const int32_t* columns = sparse.indices.data_ptr<int32_t>();
  // Parts of rows count their own entries of each column, learn where theirs begin, and place them:
  // the order is the same for any number of parts.
  constexpr int64_t kEntriesPerPart = 1 << 18;
  const int64_t n = sparse.n_rows();
  const int64_t parts = std::clamp<int64_t>(nnz / kEntriesPerPart, 1, ParallelThreads());
  std::vector<std::vector<int64_t>> next(parts, std::vector<int64_t>(m, 0));
  const auto row_of_part = [&](int64_t part) { return n * part / parts; };
  ParallelFor(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t last = row_offsets[row_of_part(part + 1)];
      for (int64_t i = row_offsets[row_of_part(part)]; i < last; ++i) ++next[part][columns[i]];
    }
  });
  for (int64_t column = 0, at = 0; column < m; ++column) {
    for (std::vector<int64_t>& of_part : next) at += std::exchange(of_part[column], at);
    offsets[column + 1] = at;
  }
  ParallelFor(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      for (int64_t row = row_of_part(part); row < row_of_part(part + 1); ++row) {
        for (int64_t i = row_offsets[row]; i < row_offsets[row + 1]; ++i) {
          const int64_t at = next[part][columns[i]]++;
          rows[at] = static_cast<int32_t>(row);
          entries[at] = i;
        }
      }
    }
  });
  return order;
}

}  // namespace featurescope

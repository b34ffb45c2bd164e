#include "server/explore/sparse_activations.h"

#include <algorithm>
#include <functional>

#include "server/base/status.h"

namespace featurescope {

SparseRowView RowOf(const SparseRows& rows, int64_t row) {
  const int64_t* offsets = rows.row_offsets.data_ptr<int64_t>();
  const int64_t begin = offsets[row];
  const auto size = static_cast<size_t>(offsets[row + 1] - begin);
  return {absl::MakeConstSpan(rows.indices.data_ptr<int32_t>() + begin, size),
          absl::MakeConstSpan(rows.values.data_ptr<float>() + begin, size)};
}

void AppendRows(const SparseRows& rows, SparseActivations* out) {
  const SparseRows on_cpu = rows.To(torch::kCPU);
  out->n_cols = static_cast<uint32_t>(rows.n_cols);
  out->indices.reserve(out->indices.size() + static_cast<size_t>(rows.nnz()));
  out->values.reserve(out->values.size() + static_cast<size_t>(rows.nnz()));
  for (int64_t i = 0; i < on_cpu.n_rows(); ++i) {
    const SparseRowView row = RowOf(on_cpu, i);
    for (const int32_t index : row.indices) out->indices.push_back(static_cast<uint32_t>(index));
    out->values.insert(out->values.end(), row.values.begin(), row.values.end());
    out->EndRow();
  }
}

absl::Status Validate(const SparseActivations& acts) {
  const std::vector<uint32_t>& offsets = acts.row_offsets;
  if (offsets.empty() || offsets.front() != 0) {
    return InvalidArgument("row_offsets must begin with 0");
  }
  if (acts.indices.size() != acts.values.size()) {
    return InvalidArgument("there are ", acts.indices.size(), " indices, but ", acts.values.size(),
                           " values");
  }
  const auto falls = std::adjacent_find(offsets.begin(), offsets.end(), std::greater<>());
  if (falls != offsets.end()) {
    return InvalidArgument("row_offsets[", falls - offsets.begin() + 1, "] is ", falls[1],
                           ", less than the one before it, ", falls[0]);
  }
  if (offsets.back() != acts.indices.size()) {
    return InvalidArgument("row_offsets end with ", offsets.back(), ", but there are ",
                           acts.indices.size(), " indices");
  }
  for (size_t row = 0; row < acts.n_rows(); ++row) {
    for (uint32_t i = offsets[row]; i < offsets[row + 1]; ++i) {
      if (acts.indices[i] >= acts.n_cols) {
        return InvalidArgument("row ", row, ": feature ", acts.indices[i], " is out of range [0, ",
                               acts.n_cols, ")");
      }
      if (i > offsets[row] && acts.indices[i] <= acts.indices[i - 1]) {
        return InvalidArgument("row ", row, ": feature ", acts.indices[i], " follows ",
                               acts.indices[i - 1], ", features must ascend");
      }
    }
  }
  return absl::OkStatus();
}

SparseRows ToSparseRows(const SparseActivations& acts, size_t begin, size_t end) {
  const size_t first = acts.row_offsets[begin];
  const size_t n_entries = acts.row_offsets[end] - first;
  SparseRows rows;
  rows.n_cols = acts.n_cols;
  rows.row_offsets = torch::empty({static_cast<int64_t>(end - begin) + 1}, torch::kInt64);
  rows.indices = torch::empty({static_cast<int64_t>(n_entries)}, torch::kInt32);
  rows.values = torch::empty({static_cast<int64_t>(n_entries)}, torch::kFloat32);
  int64_t* row_offsets = rows.row_offsets.data_ptr<int64_t>();
  for (size_t i = begin; i <= end; ++i) {
    row_offsets[i - begin] = static_cast<int64_t>(acts.row_offsets[i] - first);
  }
  int32_t* indices = rows.indices.data_ptr<int32_t>();
  for (size_t i = 0; i < n_entries; ++i) {
    indices[i] = static_cast<int32_t>(acts.indices[first + i]);
  }
  std::copy_n(acts.values.begin() + static_cast<int64_t>(first), n_entries,
              rows.values.data_ptr<float>());
  return rows;
}

}  // namespace featurescope

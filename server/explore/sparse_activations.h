// Feature activations as plain numbers, ready to be sent.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/tensor/sparse_rows.h"

namespace featurescope {

// Row i holds entries row_offsets[i] to row_offsets[i + 1].
struct SparseActivations {
  std::vector<uint32_t> row_offsets = {0};
  std::vector<uint32_t> indices;  // feature ids, ascending within a row
  std::vector<float> values;
  uint32_t n_cols = 0;

  size_t n_rows() const { return row_offsets.empty() ? 0 : row_offsets.size() - 1; }
  void Add(uint32_t index, float value) {
    indices.push_back(index);
    values.push_back(value);
  }
  void EndRow() { row_offsets.push_back(static_cast<uint32_t>(indices.size())); }
};

// Adds the rows of `rows` (on any device) to `out`.
void AppendRows(const SparseRows& rows, SparseActivations* out);

// Checks what came from outside.
//   errors  InvalidArgument  offsets, order or ranges are wrong; the message names row and value
absl::Status Validate(const SparseActivations& acts);

// Rows [begin, end) as tensors on the CPU. REQUIRES: Validate gives OK, begin <= end <= n_rows().
SparseRows ToSparseRows(const SparseActivations& acts, size_t begin, size_t end);

// One row of a SparseRows on the CPU.
struct SparseRowView {
  absl::Span<const int32_t> indices;
  absl::Span<const float> values;
};
SparseRowView RowOf(const SparseRows& rows, int64_t row);

}  // namespace featurescope

// SparseRows: feature activations from the encoder outward, as compressed sparse rows.
//
// Nothing dense of width d_sae is stored or sent: a row holds only what is not zero.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tensor/torch.h"

namespace featurescope {

// A matrix [n_rows, n_cols]; row i holds entries row_offsets[i] to row_offsets[i + 1].
// All three tensors are contiguous and on one device.
struct SparseRows {
  torch::Tensor row_offsets;  // int64 [n_rows + 1], starts with 0
  torch::Tensor indices;      // int32 [nnz], ascending within a row
  torch::Tensor values;       // float32 [nnz]
  int64_t n_cols = 0;

  int64_t n_rows() const { return row_offsets.defined() ? row_offsets.numel() - 1 : 0; }
  int64_t nnz() const { return values.defined() ? values.numel() : 0; }
  torch::Device device() const { return values.device(); }

  SparseRows To(torch::Device device) const;
  // Rows [begin, end). REQUIRES: 0 <= begin <= end <= n_rows().
  SparseRows Slice(int64_t begin, int64_t end) const;
  torch::Tensor ToDense() const;  // float32 [n_rows, n_cols]

  // Checks sizes, offsets, order and ranges of what came from outside.
  //   errors  InvalidArgument  naming the row and the value
  absl::Status Validate() const;
};

// Whether functions on `tensor` run as loops for the CPU; else they are composed of LibTorch
// operators, as on CUDA.
bool UsesLoops(const torch::Tensor& tensor);
// For tests: operators also on the CPU. Not for use while anything computes.
void ComposeOfOperators(bool always);

// The entries of `dense` (of `dense` + `bias` where a bias is given) that are > 0.
//
//   dense  float32 [n, m], contiguous;  bias  float32 [m]
SparseRows PositiveEntries(const torch::Tensor& dense, const torch::Tensor& bias = {});

// Row-wise concatenation. REQUIRES: not empty, equal n_cols and device.
SparseRows Concatenate(const std::vector<SparseRows>& parts);

// The same matrix by columns: for column c, entries column_offsets[c] to column_offsets[c + 1] of
// `rows` (ascending) and `entries` (positions in the SparseRows' values).
struct ColumnOrder {
  torch::Tensor column_offsets;  // int64 [n_cols + 1]
  torch::Tensor rows;            // int32 [nnz]
  torch::Tensor entries;         // int64 [nnz]
};
ColumnOrder OrderByColumn(const SparseRows& sparse);

}  // namespace featurescope

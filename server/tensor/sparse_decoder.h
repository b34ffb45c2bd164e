// A decoder's errors over sparse activations and what the backward pass needs of them, in one pass
// over the rows of W that are active.
//
// The features may form nested groups (Matryoshka): the loss then counts the error of the first
// group alone, of the first two, and so on. A plain decoder has one group.
//
//   r_i  = acts[groups 0..i] W - target            [n, d]
//   loss = sum over rows and groups of weights[i] |r_i|^2
//   g_i  = sum over j >= i of 2 weights[j] r_j      the loss's gradient by what group i adds
//
// Loops on the CPU, LibTorch's operators on CUDA; results do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "server/tensor/sparse_rows.h"
#include "server/tensor/torch.h"

namespace featurescope {

struct NestedDecoder {
  torch::Tensor W;                  // float32 [m, d], contiguous
  std::vector<int64_t> group_ends;  // rising; the last is m
  std::vector<double> weights;      // one for each group

  int64_t n_groups() const { return static_cast<int64_t>(group_ends.size()); }
};

// Columns of DecoderErrors::sums.
inline constexpr int kSquaredError = 0;      // |r|^2 with all groups
inline constexpr int kSquaredTarget = 1;     // |y|^2, y = target + offset
inline constexpr int kTargetTimesError = 2;  // y . r
inline constexpr int kWeightedError = 3;     // sum_i weights[i] |r_i|^2
inline constexpr int kDecoderSums = 4;

// Buffers that the caller keeps; DecodeErrors fills rows of them.
struct DecoderErrors {
  torch::Tensor g;     // float32 [groups * n, d]; row i n + r is g_i of row r
  torch::Tensor sums;  // float64 [n, kDecoderSums]
  torch::Tensor
      dots;  // float32 [nnz]: for each entry W[feature] . g of its group; may be undefined
};

// Fills rows [begin, end) of `errors`, and `dots` of their entries.
//
//   acts    [n, m];  target  float32 [n, d]
//   offset  float32 [d], what was taken off the target; only for `sums`
void DecodeErrors(const NestedDecoder& decoder, const SparseRows& acts, const torch::Tensor& target,
                  const torch::Tensor& offset, int64_t begin, int64_t end, DecoderErrors* errors);

// The row of errors.g for each entry in the order of `columns`, int32 [nnz]: for the gradient of W.
torch::Tensor GradientRows(const ColumnOrder& columns, const std::vector<int64_t>& group_ends,
                           int64_t n_rows);

// out[c] += the sum of `values` (float32 [nnz], in the order of the SparseRows) over column c.
//   out  float32 [m]
void AddColumnSums(const ColumnOrder& columns, const torch::Tensor& values, torch::Tensor& out);

}  // namespace featurescope

// Products of sparse activations with dense matrices: what an SAE does after its encoder.
//
// On the CPU these are parallel loops over rows that touch only active features; on CUDA the same
// functions are composed of LibTorch operators. Results do not depend on the number of threads.
#pragma once

#include <cstdint>

#include "server/tensor/sparse_rows.h"
#include "server/tensor/torch.h"

namespace featurescope {

// The k largest positive entries of each row of `pre` (of `pre` + `bias` where a bias is given);
// fewer where fewer are positive. Ties go to the smaller index (on CUDA: to any).
//
//   pre  float32 or bfloat16 [n, m], contiguous;  1 <= k <= m;  bias  float32 [m]
//
// This is TopK after ReLU: Gao et al. 2024, arXiv:2406.04093.
SparseRows TopKPositive(const torch::Tensor& pre, int64_t k, const torch::Tensor& bias = {});

// The entries where `mask`, bool [nnz], is true.
SparseRows KeepEntries(const SparseRows& sparse, const torch::Tensor& mask);

// The `keep` largest of all entries together; of equal ones those that come first.
//   REQUIRES: keep >= 1.
SparseRows LargestEntries(const SparseRows& sparse, int64_t keep);

// acts W, each row the weighted sum of the active rows of W.
//
//   acts [n, m], W float32 [m, d], contiguous;  returns float32 [n, d]
torch::Tensor SparseTimesDense(const SparseRows& acts, const torch::Tensor& W);

// The entries of g W^T at the places where `acts` has entries (a sampled dense-dense product).
//
//   g float32 [n, d], W float32 [m, d];  returns float32 [nnz] in the order of acts.values
torch::Tensor SampledProduct(const SparseRows& acts, const torch::Tensor& g,
                             const torch::Tensor& W);

// out += acts^T g: the gradient of W in SparseTimesDense. Only rows of active features are touched.
//
//   columns  OrderByColumn(acts);  values float32 [nnz] stand in for acts.values
//   g float32 [n, d];  out float32 [m, d]
void AddTransposedProduct(const ColumnOrder& columns, const torch::Tensor& values,
                          const torch::Tensor& g, torch::Tensor& out);

}  // namespace featurescope

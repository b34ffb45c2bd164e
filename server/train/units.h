// A piece of a batch, seen unit by unit: a unit is one feature at one token.
//
// A sparse piece has the units that a selection kept, of the whole batch; a dense piece has every
// feature of a block of rows. Formulas written on Units serve both.
#pragma once

#include <cstdint>

#include "server/tensor/sparse_decoder.h"
#include "server/tensor/sparse_rows.h"
#include "server/tensor/torch.h"

namespace featurescope {

// The tensors are float32 [nnz] (sparse) or [rows, d_sae] (dense).
struct Units {
  torch::Tensor z;          // hidden_pre with the selection's bias
  torch::Tensor acts;       // what the decoder multiplies; 0 where a feature does not fire
  torch::Tensor gate_acts;  // gated: what the auxiliary error decodes
  torch::Tensor dots;       // the reconstruction's gradient by acts; may be written to
  torch::Tensor gate_dots;  // gated: the auxiliary error's by gate_acts
  torch::Tensor dz;         // the loss's gradient by x W_enc

  torch::Tensor features;                // sparse: int32 [nnz]
  const ColumnOrder* columns = nullptr;  // sparse: the units by feature

  bool sparse() const { return columns != nullptr; }
  // `per_feature` [d_sae] for each unit.
  torch::Tensor Of(const torch::Tensor& per_feature) const {
    return sparse() ? per_feature.index_select(0, features) : per_feature;
  }
  // out [d_sae] += the sums of `values` over each feature's units.
  void AddSums(const torch::Tensor& values, torch::Tensor& out) const {
    sparse() ? AddColumnSums(*columns, values, out) : static_cast<void>(out.add_(values.sum(0)));
  }
};

}  // namespace featurescope

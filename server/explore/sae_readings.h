// Other ways to give an SAE the same activations: scaled, normalised, with or without b_dec. Where
// one of them repairs the reconstruction, it names what is missing.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "server/sae/sae.h"
#include "server/tensor/torch.h"

namespace featurescope {

struct SaeReading {
  std::string words;  // what it is, and how to bind the SAE so
  // The SAE's input of rows [n, d_in].
  std::function<torch::Tensor(const torch::Tensor& x)> input;
  // Undoes it on the output [n, d_out], given the rows as they were; null: nothing to undo.
  std::function<torch::Tensor(const torch::Tensor& output, const torch::Tensor& x)> output =
      nullptr;
};

// Those that make sense for this SAE. The scales are measured on `x`, float32 [n, d_in].
std::vector<SaeReading> OtherReadings(const Sae& sae, const torch::Tensor& x);

}  // namespace featurescope

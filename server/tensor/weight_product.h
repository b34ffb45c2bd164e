// x W^T for many x and one W: an encoder's product, by the fastest way that the machine has.
//
//   float32   AMX with split factors (amx_product.h), else LibTorch's product
//   bfloat16  factors rounded, sums in float32: AMX, else oneDNN where it is there, else LibTorch's
#pragma once

#include <cstdint>
#include <memory>

#include "server/tensor/amx_product.h"
#include "server/tensor/torch.h"

namespace featurescope {

// Whether the processor has bfloat16 products; without them they are slower than float32 ones.
bool HasFastBfloat16();

// Not thread-safe. With AMX, a row's results depend neither on the other rows nor on the number of
// threads.
class WeightProduct {
 public:
  using Factors = AmxProduct::Factors;
  enum class Way {
    kFastest,
    kLibraries,  // without AMX of our own: for tests and comparisons
  };

  explicit WeightProduct(Factors factors, Way way = Way::kFastest);
  ~WeightProduct();

  // Takes the weights, float32 [m, d], contiguous: as a copy in the layout that the product reads,
  // or as they are.
  void SetWeights(const torch::Tensor& W);
  // out = x W^T.   x float32 [n, d], out float32 [n, m]; both contiguous.
  //   REQUIRES: SetWeights was called.
  void Multiply(const torch::Tensor& x, torch::Tensor& out);

  // Bytes of the copy, at most.
  static uint64_t WeightBytes(Factors factors, int64_t m, int64_t d);
  // Whether bfloat16 sums on the CPU are rounded to bfloat16 as well, because LibTorch's own
  // product does so and nothing better is there.
  static bool RoundsSums(Way way = Way::kFastest);

 private:
  class Packed;  // oneDNN's, on the CPU where the library is there
  void MultiplyRounded(const torch::Tensor& x, torch::Tensor& out);

  const Factors factors_;
  const Way way_;
  std::unique_ptr<AmxProduct> amx_;
  std::unique_ptr<Packed> packed_;
  torch::Tensor W_;     // float32 as it came; bfloat16 [m, d] without AMX and oneDNN
  torch::Tensor x_;     // bfloat16, buffer
  torch::Tensor half_;  // bfloat16, buffer for results
};

}  // namespace featurescope

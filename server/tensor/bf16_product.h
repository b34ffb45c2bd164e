// x W^T with factors rounded to bfloat16 and sums in float32: the encoder's product at several
// times the speed of a float32 one, where the processor has instructions for it (AMX, AVX512-BF16)
// or on a GPU.
#pragma once

#include <cstdint>
#include <memory>

#include "server/tensor/torch.h"

namespace featurescope {

// Whether the processor has bfloat16 products; without them they are slower than float32 ones.
bool HasFastBfloat16();

// Not thread-safe.
class Bfloat16Product {
 public:
  // Whether sums on the CPU are rounded to bfloat16 as well, because LibTorch's own product does so
  // and oneDNN is not there.
  static bool RoundsSums();

  Bfloat16Product();
  ~Bfloat16Product();

  // Takes the weights, float32 [m, d], contiguous, in the layout that the product reads. They are
  // copied: 2 m d bytes.
  void SetWeights(const torch::Tensor& W);
  // out = x W^T.   x float32 [n, d], out float32 [n, m]; both contiguous.
  //   REQUIRES: SetWeights was called.
  void Multiply(const torch::Tensor& x, torch::Tensor& out);

 private:
  class Packed;  // oneDNN's, on the CPU where the library is there
  std::unique_ptr<Packed> packed_;
  torch::Tensor W_;     // bfloat16 [m, d]; without oneDNN
  torch::Tensor x_;     // bfloat16, buffer
  torch::Tensor half_;  // bfloat16, buffer for results
};

}  // namespace featurescope

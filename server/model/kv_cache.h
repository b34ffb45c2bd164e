// Keys and values of one sequence, layer by layer, for generation token by token.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "server/tensor/torch.h"

namespace featurescope {

// Belongs to one sequence; not thread-safe. Memory grows by doubling up to `max_tokens`.
class KvCache {
 public:
  KvCache(int n_layers, int64_t n_kv_heads, int64_t d_head, int64_t max_tokens,
          torch::ScalarType dtype, torch::Device device);

  int64_t length() const { return length_; }

  // Adds `keys` and `values` [n, kv_head, d_head] of `layer` behind the first length() tokens and
  // returns all so far, [length() + n, kv_head, d_head].
  //   REQUIRES: length() + n <= max_tokens.
  std::pair<torch::Tensor, torch::Tensor> Extend(int layer, const torch::Tensor& keys,
                                                 const torch::Tensor& values);
  // After all layers have been extended by n tokens.
  void Advance(int64_t n) { length_ += n; }

 private:
  struct Layer {
    torch::Tensor keys;    // [capacity, kv_head, d_head]
    torch::Tensor values;  // [capacity, kv_head, d_head]
  };
  std::vector<Layer> layers_;
  int64_t n_kv_heads_;
  int64_t d_head_;
  int64_t max_tokens_;
  torch::TensorOptions options_;
  int64_t length_ = 0;
};

}  // namespace featurescope

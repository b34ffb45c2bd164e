#include "server/model/kv_cache.h"

#include <algorithm>

namespace featurescope {
namespace {

constexpr int64_t kFirstCapacity = 64;  // tokens

// A buffer of `capacity` tokens that begins with the first `length` tokens of `old`.
torch::Tensor Grown(const torch::Tensor& old, int64_t length, torch::IntArrayRef sizes,
                    const torch::TensorOptions& options) {
  torch::Tensor grown = torch::empty(sizes, options);
  if (length > 0) grown.narrow(0, 0, length).copy_(old.narrow(0, 0, length));
  return grown;
}

}  // namespace

KvCache::KvCache(int n_layers, int64_t n_kv_heads, int64_t d_head, int64_t max_tokens,
                 torch::ScalarType dtype, torch::Device device)
    : layers_(static_cast<size_t>(n_layers)),
      n_kv_heads_(n_kv_heads),
      d_head_(d_head),
      max_tokens_(max_tokens),
      options_(torch::TensorOptions(dtype).device(device)) {}

std::pair<torch::Tensor, torch::Tensor> KvCache::Extend(int layer, const torch::Tensor& keys,
                                                        const torch::Tensor& values) {
  Layer& at = layers_.at(static_cast<size_t>(layer));
  const int64_t n = keys.size(0);
  const int64_t needed = length_ + n;
  TORCH_CHECK(needed <= max_tokens_, "KvCache of ", max_tokens_, " tokens asked to hold ", needed);
  const int64_t capacity = at.keys.defined() ? at.keys.size(0) : 0;
  if (needed > capacity) {
    const int64_t grown = std::min(max_tokens_, std::max({needed, 2 * capacity, kFirstCapacity}));
    const int64_t sizes[] = {grown, n_kv_heads_, d_head_};
    at.keys = Grown(at.keys, length_, sizes, options_);
    at.values = Grown(at.values, length_, sizes, options_);
  }
  at.keys.narrow(0, length_, n).copy_(keys);
  at.values.narrow(0, length_, n).copy_(values);
  return {at.keys.narrow(0, 0, needed), at.values.narrow(0, 0, needed)};
}

}  // namespace featurescope

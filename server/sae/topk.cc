// TopK SAE: of each token the k largest features fire, those of them that are above zero.
//
//   feature_acts = relu(top_k(hidden_pre))
//
// With rescale_acts_by_decoder_norm features compete by hidden_pre |W_dec row|.
//
// Source: Gao et al. 2024, arXiv:2406.04093; the rescaling: SAELens 6, saes/topk_sae.py.
#include "server/base/status.h"
#include "server/sae/architectures.h"
#include "server/tensor/sparse_ops.h"

namespace featurescope {
namespace {

class TopKSae : public Sae {
 public:
  TopKSae(SaeConfig config, SaeParameters parameters)
      : Sae(std::move(config), std::move(parameters)) {
    if (decoder_norms_.defined()) scaled_b_enc_ = parameters_.b_enc * decoder_norms_;
  }

 protected:
  SparseRows Activate(torch::Tensor& hidden_pre) const override {
    if (!decoder_norms_.defined()) return TopKPositive(hidden_pre, config_.k, parameters_.b_enc);
    hidden_pre.mul_(decoder_norms_);
    return TopKPositive(hidden_pre, config_.k, scaled_b_enc_);
  }

 private:
  torch::Tensor scaled_b_enc_;  // undefined: no rescaling
};

}  // namespace

absl::StatusOr<std::shared_ptr<Sae>> MakeTopKSae(SaeConfig config, SaeParameters parameters) {
  if (config.k < 1 || config.k > config.d_sae) {
    return InvalidArgument("k is ", config.k, ", out of range [1, ", config.d_sae, "]");
  }
  return std::make_shared<TopKSae>(std::move(config), std::move(parameters));
}

}  // namespace featurescope

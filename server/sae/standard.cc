// Standard SAE: every feature that is above zero fires.
//
//   feature_acts = relu(hidden_pre)
//
// Source: Bricken et al. 2023, "Towards Monosemanticity"; Cunningham et al. 2023, arXiv:2309.08600.
#include "server/base/status.h"
#include "server/sae/architectures.h"

namespace featurescope {
namespace {

class StandardSae : public Sae {
 public:
  StandardSae(SaeConfig config, SaeParameters parameters)
      : Sae(std::move(config), std::move(parameters)) {}

 protected:
  SparseRows Activate(torch::Tensor& hidden_pre) const override {
    return PositiveEntries(hidden_pre, parameters_.b_enc);
  }

  torch::Tensor ActivateFeatures(const torch::Tensor& x,
                                 const torch::Tensor& features) const override {
    return torch::addmm(parameters_.b_enc.index_select(0, features), x,
                        parameters_.W_enc.index_select(1, features))
        .relu_();
  }
};

}  // namespace

absl::StatusOr<std::shared_ptr<Sae>> MakeStandardSae(SaeConfig config, SaeParameters parameters) {
  if (config.rescale_acts_by_decoder_norm) {
    return Unimplemented("rescale_acts_by_decoder_norm is for topk, not for a standard SAE");
  }
  return std::make_shared<StandardSae>(std::move(config), std::move(parameters));
}

}  // namespace featurescope

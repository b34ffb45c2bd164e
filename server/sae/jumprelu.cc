// JumpReLU SAE: a learned threshold per feature.
//
//   feature_acts = relu(hidden_pre) * (hidden_pre > threshold)    jumprelu, jumprelu_transcoder
//
// Source: Rajamanoharan et al. 2024, "Jumping Ahead", arXiv:2407.14435.
#include "server/base/status.h"
#include "server/sae/architectures.h"
#include "server/sae/threshold_select.h"

namespace featurescope {
namespace {

class JumpReluSae : public Sae {
 public:
  JumpReluSae(SaeConfig config, SaeParameters parameters)
      : Sae(std::move(config), std::move(parameters)),
        select_(parameters_.b_enc, parameters_.threshold) {}

 protected:
  SparseRows Activate(torch::Tensor& hidden_pre) const override {
    return TimesDecoderNorms(select_(hidden_pre));
  }

  torch::Tensor ActivateFeatures(const torch::Tensor& x,
                                 const torch::Tensor& features) const override {
    return TimesDecoderNorms(select_.Dense(Project(x, features), features), features);
  }

 private:
  ThresholdSelect select_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<Sae>> MakeJumpReluSae(SaeConfig config, SaeParameters parameters) {
  return std::make_shared<JumpReluSae>(std::move(config), std::move(parameters));
}

}  // namespace featurescope

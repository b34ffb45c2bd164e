// Standard SAE: every feature that is above zero fires.
//
//   feature_acts = relu(hidden_pre)           standard, transcoder, skip_transcoder
//   feature_acts = tanh(relu(hidden_pre))     tanh_relu
//
// Source: Bricken et al. 2023, "Towards Monosemanticity"; Cunningham et al. 2023, arXiv:2309.08600.
// Transcoders: Dunefsky et al. 2024, arXiv:2406.11944; with skip: Paulo et al. 2025,
// arXiv:2501.18823. tanh: SAELens 3 to 5, activation_fn_str "tanh-relu".
#include "server/base/status.h"
#include "server/sae/architectures.h"

namespace featurescope {
namespace {

class StandardSae : public Sae {
 public:
  StandardSae(SaeConfig config, SaeParameters parameters, bool tanh)
      : Sae(std::move(config), std::move(parameters)), tanh_(tanh) {}

 protected:
  SparseRows Activate(torch::Tensor& hidden_pre) const override {
    SparseRows acts = PositiveEntries(hidden_pre, parameters_.b_enc);
    if (tanh_) acts.values.tanh_();
    return TimesDecoderNorms(std::move(acts));
  }

  torch::Tensor ActivateFeatures(const torch::Tensor& x,
                                 const torch::Tensor& features) const override {
    torch::Tensor acts = torch::addmm(parameters_.b_enc.index_select(0, features), x,
                                      parameters_.W_enc.index_select(1, features))
                             .relu_();
    if (tanh_) acts.tanh_();
    return TimesDecoderNorms(acts, features);
  }

 private:
  const bool tanh_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<Sae>> MakeStandardSae(SaeConfig config, SaeParameters parameters) {
  return std::make_shared<StandardSae>(std::move(config), std::move(parameters), false);
}

absl::StatusOr<std::shared_ptr<Sae>> MakeTanhReluSae(SaeConfig config, SaeParameters parameters) {
  return std::make_shared<StandardSae>(std::move(config), std::move(parameters), true);
}

}  // namespace featurescope

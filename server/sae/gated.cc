// Gated SAE: one path says whether a feature fires, another how much; they share their directions.
//
//   u            = (x - b_dec) W_enc
//   feature_acts = (u + b_gate > 0) * relu(exp(r_mag) u + b_mag)
//
// Source: Rajamanoharan et al. 2024, arXiv:2404.16014.
#include "server/base/status.h"
#include "server/sae/architectures.h"
#include "server/sae/threshold_select.h"

namespace featurescope {
namespace {

class GatedSae : public Sae {
 public:
  GatedSae(SaeConfig config, SaeParameters parameters)
      : Sae(std::move(config), std::move(parameters)), gain_(parameters_.r_mag.exp()) {}

 protected:
  SparseRows Activate(torch::Tensor& hidden_pre) const override {
    if (!hidden_pre.is_cpu()) {
      const torch::Tensor closed = hidden_pre + parameters_.b_gate <= 0;
      hidden_pre.mul_(gain_).add_(parameters_.b_mag).masked_fill_(closed, 0);
      return TimesDecoderNorms(PositiveEntries(hidden_pre));
    }
    const float* gain = gain_.data_ptr<float>();
    const float* b_mag = parameters_.b_mag.data_ptr<float>();
    return TimesDecoderNorms(Revalued(PositiveEntries(hidden_pre, parameters_.b_gate), hidden_pre,
                                      [gain, b_mag](const float* row, int32_t column) {
                                        return gain[column] * row[column] + b_mag[column];
                                      }));
  }

  torch::Tensor ActivateFeatures(const torch::Tensor& x,
                                 const torch::Tensor& features) const override {
    const torch::Tensor u = Project(x, features);  // [n, features]
    const torch::Tensor closed = u + parameters_.b_gate.index_select(0, features) <= 0;
    const torch::Tensor magnitude =
        u * gain_.index_select(0, features) + parameters_.b_mag.index_select(0, features);
    return TimesDecoderNorms(magnitude.relu().masked_fill_(closed, 0), features);
  }

 private:
  torch::Tensor gain_;  // exp(r_mag), [d_sae]
};

}  // namespace

absl::StatusOr<std::shared_ptr<Sae>> MakeGatedSae(SaeConfig config, SaeParameters parameters) {
  if (!torch::isfinite(parameters.r_mag.exp()).all().item<bool>()) {
    return InvalidArgument("r_mag has a value whose exponential is not finite");
  }
  return std::make_shared<GatedSae>(std::move(config), std::move(parameters));
}

}  // namespace featurescope

// GroupMax SAE: features stand in k groups of neighbours, and of each group the largest fires if it
// is above zero.
//
//   feature_acts[g] = relu(max(hidden_pre[g]))    g: d_sae / k features in a row
//
// Source: EleutherAI's sparsify, activation "groupmax".
#include "server/base/status.h"
#include "server/sae/architectures.h"

namespace featurescope {
namespace {

class GroupMaxSae : public Sae {
 public:
  GroupMaxSae(SaeConfig config, SaeParameters parameters)
      : Sae(std::move(config), std::move(parameters)) {
    const int64_t group = config_.d_sae / config_.k;
    first_of_group_ = torch::arange(0, config_.d_sae, group, torch::kInt64).to(device());
  }

 protected:
  SparseRows Activate(torch::Tensor& hidden_pre) const override {
    const int64_t n = hidden_pre.size(0);
    hidden_pre.add_(parameters_.b_enc);
    if (decoder_norms_.defined()) hidden_pre.mul_(decoder_norms_);
    const auto [largest, place] =
        hidden_pre.view({n, config_.k, config_.d_sae / config_.k}).max(2);  // [n, k]
    const torch::Tensor fires = largest > 0;
    torch::Tensor offsets = torch::zeros({n + 1}, place.options());
    offsets.slice(0, 1).copy_(fires.sum(1).cumsum(0));
    return {offsets, (place + first_of_group_).masked_select(fires).to(torch::kInt32),
            largest.masked_select(fires), config_.d_sae};
  }

 private:
  torch::Tensor first_of_group_;  // int64 [k]
};

}  // namespace

absl::StatusOr<std::shared_ptr<Sae>> MakeGroupMaxSae(SaeConfig config, SaeParameters parameters) {
  if (config.k < 1 || config.k > config.d_sae || config.d_sae % config.k != 0) {
    return InvalidArgument("k is ", config.k, "; groupmax needs a divisor of d_sae ", config.d_sae);
  }
  return std::make_shared<GroupMaxSae>(std::move(config), std::move(parameters));
}

}  // namespace featurescope

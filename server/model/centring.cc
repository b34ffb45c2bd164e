#include "server/model/centring.h"

#include "server/base/status.h"

namespace featurescope {

absl::Status CheckCanCenterWriting(const ModelConfig& config) {
  if (config.norm == NormKind::kLayerNorm) return absl::OkStatus();
  return FailedPrecondition("center_writing_weights needs a model with LayerNorm; this ",
                            config.model_type,
                            " model has RMSNorm, which centring would change the outputs of");
}

bool IsCentredByWriting(HookKind kind) {
  switch (kind) {
    case HookKind::kEmbed:
    case HookKind::kPosEmbed:
    case HookKind::kResidPre:
    case HookKind::kAttnOut:
    case HookKind::kResidMid:
    case HookKind::kMlpOut:
    case HookKind::kResidPost:
      return true;
    default:
      return false;
  }
}

torch::Tensor CenterWritingActivation(const HookPoint& hook, const torch::Tensor& x) {
  if (!IsCentredByWriting(hook.kind)) return x;
  const torch::Tensor wide = x.to(torch::kFloat32);
  return (wide - wide.mean(-1, /*keepdim=*/true)).to(x.scalar_type());
}

torch::Tensor ApplyCentredEdit(const HookPoint& hook, const torch::Tensor& x,
                               const torch::Tensor& edited) {
  if (!IsCentredByWriting(hook.kind)) return edited;
  const torch::Tensor wide = x.to(torch::kFloat32);
  return (edited.to(torch::kFloat32) + wide.mean(-1, /*keepdim=*/true)).to(x.scalar_type());
}

}  // namespace featurescope

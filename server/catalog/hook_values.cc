#include "server/catalog/hook_values.h"

#include "server/model/centring.h"

namespace featurescope {

torch::Tensor HookRows(const torch::Tensor& value, const HookPoint& hook, bool center) {
  const torch::Tensor rows = value.reshape({value.size(0), -1}).to(torch::kFloat32);
  return center ? CenterWritingActivation(hook, rows) : rows;
}

}  // namespace featurescope

// What an SAE sees of a model's activations: the one place where a hook's value becomes an SAE's
// input or target.
#pragma once

#include "server/base/hook_point.h"
#include "server/tensor/torch.h"

namespace featurescope {

// A hook's value [n, ...] as rows, float32 [n, width]; with `center` as the model with centred
// writing weights has it (server/model/centring.h).
torch::Tensor HookRows(const torch::Tensor& value, const HookPoint& hook, bool center);

}  // namespace featurescope

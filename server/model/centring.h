// Activations as they would be with centred writing weights, without touching the weights.
//
// TransformerLens' `center_writing_weights` takes from everything that writes into the residual
// stream (W_E, W_pos, every W_O and b_O, every W_out and b_out) its mean over d_model. LayerNorm
// removes that mean in any case, so logits, patterns and MLP activations stay the same; the stream
// itself, and what is added to it, lose their mean per token. An SAE that was trained on such
// activations needs them so, while another SAE on the same model may need them as they are.
//
// Editing in the centred space is exact, too: the change is added to the uncentred activation, and
// the part by which that differs from an edited centred one is the mean that every LayerNorm drops.
#pragma once

#include "absl/status/status.h"
#include "server/base/hook_point.h"
#include "server/model/config.h"
#include "server/tensor/torch.h"

namespace featurescope {

// OK where centring leaves the model's outputs as they are.
//
//   errors  FailedPrecondition  the model has RMSNorm, which does not remove a mean
absl::Status CheckCanCenterWriting(const ModelConfig& config);

// Whether centring changes the values at this kind of hook point: the residual stream, and what is
// added to it.
bool IsCentredByWriting(HookKind kind);

// The value at `hook` of the model with centred writing weights.
//
//   x        [..., d_model] where IsCentredByWriting, else any shape; not changed
//   returns  x itself where centring changes nothing
torch::Tensor CenterWritingActivation(const HookPoint& hook, const torch::Tensor& x);

// What to put back at `hook` when CenterWritingActivation(hook, x) has been edited to `edited`:
// x plus the change, in x's dtype.
torch::Tensor ApplyCentredEdit(const HookPoint& hook, const torch::Tensor& x,
                               const torch::Tensor& edited);

}  // namespace featurescope

// One forward pass over a batch: the model's layers in order, with hooks on the way.
#pragma once

#include "absl/status/statusor.h"
#include "server/model/config.h"
#include "server/model/model_weights.h"
#include "server/model/transformer.h"
#include "server/tensor/torch.h"

namespace featurescope {

// Transformer::Forward on a batch that has been checked. May throw c10::Error.
absl::StatusOr<torch::Tensor> RunForward(const ModelConfig& config, const ModelWeights& weights,
                                         const SequenceBatch& batch, const ForwardOptions& options);

}  // namespace featurescope

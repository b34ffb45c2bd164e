// What Gemma and Gemma 2 have in common beyond the Llama family.
#pragma once

#include "absl/status/statusor.h"
#include "server/model/config.h"
#include "server/model/config_reader.h"

namespace featurescope {

// Embeddings times sqrt(d_model), norm weights stored less 1, tanh-GELU unless hidden_activation
// says otherwise. hidden_act is ignored, as HF does: the first files have a wrong one.
absl::StatusOr<ModelConfig> ReadGemmaConfig(ConfigReader& reader);

}  // namespace featurescope

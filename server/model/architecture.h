// What one architecture gives: its reading of config.json and of its weights.
//
// To add one: a file with these two functions, a line in architecture.cc, a test.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/model/config.h"
#include "server/model/config_reader.h"
#include "server/model/model_weights.h"
#include "server/model/weight_reader.h"

namespace featurescope {

struct Architecture {
  absl::string_view model_type;  // as in config.json

  // Everything but model_type and the token ids. Keys that it does not read are refused.
  absl::StatusOr<ModelConfig> (*read_config)(ConfigReader& reader);

  // Reads every tensor that the model needs and skips those that it knowingly ignores. Others are
  // refused.
  absl::StatusOr<ModelWeights> (*read_weights)(const ModelConfig& config, WeightReader& reader);
};

// nullptr when the type is not supported.
const Architecture* FindArchitecture(absl::string_view model_type);
// E.g. "gpt2, llama".
std::string SupportedArchitectures();

extern const Architecture kGpt2;
extern const Architecture kGptNeox;
extern const Architecture kLlama;
extern const Architecture kMistral;
extern const Architecture kQwen2;
extern const Architecture kQwen3;
extern const Architecture kGemma;
extern const Architecture kGemma2;

// Used by several architectures.

// "gelu_new" and its like.   errors  Unimplemented  naming `key` and the value
absl::StatusOr<ActivationKind> ParseActivation(absl::string_view name, absl::string_view key,
                                               absl::string_view what);

// weights->unembed: the transposed weights->embed where they are tied, else `head`.weight.
absl::Status ReadUnembedding(const ModelConfig& config, absl::string_view head,
                             WeightReader& reader, ModelWeights* weights);

}  // namespace featurescope

// What one architecture gives: its reading of config.json and of its weights.
//
// To add one: a file with these two functions, a line in architecture.cc, a test.
#pragma once

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/model/config.h"
#include "server/model/model_weights.h"
#include "server/model/weight_reader.h"

namespace featurescope {

struct Architecture {
  absl::string_view model_type;  // as in config.json

  // Everything but model_type and the token ids. `what` is the file's path, for messages.
  absl::StatusOr<ModelConfig> (*read_config)(const nlohmann::json& json, absl::string_view what);

  // Reads every tensor that the model needs and skips those that it knowingly ignores.
  absl::StatusOr<ModelWeights> (*read_weights)(const ModelConfig& config, WeightReader& reader);
};

// nullptr when the type is not supported.
const Architecture* FindArchitecture(absl::string_view model_type);
// E.g. "gpt2, llama".
std::string SupportedArchitectures();

extern const Architecture kGpt2;
extern const Architecture kLlama;

// Used by several architectures.

// "gelu_new" and its like.   errors  Unimplemented  naming `key` and the value
absl::StatusOr<ActivationKind> ParseActivation(absl::string_view name, absl::string_view key,
                                               absl::string_view what);
// Refuses a setting that changes the maths: an error unless `key` is absent, null or `harmless`.
absl::Status RequireSetting(const nlohmann::json& json, absl::string_view key,
                            const nlohmann::json& harmless, absl::string_view what);

}  // namespace featurescope

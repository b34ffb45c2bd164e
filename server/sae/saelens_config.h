// cfg.json of SAELens 3 to 6. Torch-free.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/sae/config.h"

namespace featurescope {

struct SaeLensConfig {
  SaeConfig config;
  SaeRecognition recognition;
  // The features are multiplied by a tensor scaling_factor before the decoder.
  bool finetuning_scale = false;
};

// From version 6 on cfg.json is nested (a "metadata" object); before, it was flat, with key names
// that changed over time. Unknown keys are ignored, as SAELens does. `path` begins the messages.
//
//   errors  InvalidArgument  a field is missing, of another type or out of range
//           Unimplemented    a known setting that changes the numbers and is not supported, by name
absl::StatusOr<SaeLensConfig> ParseSaeLensConfig(const nlohmann::json& cfg, absl::string_view path);

}  // namespace featurescope

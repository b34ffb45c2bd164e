// The configuration that dictionary_learning keeps beside ae.pt, or inside of a backup. Torch-free.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/sae/config.h"

namespace featurescope {

// 0 and empty: not said.
struct DictionaryLearningConfig {
  std::string dict_class;  // "AutoEncoderTopK", ...
  int64_t activation_dim = 0;
  int64_t dict_size = 0;
  int64_t k = 0;
  SaeRecognition recognition;  // model, hook, context size
};

// `cfg` is config.json: {"trainer": {...}, "buffer": {...}}; or the trainer's part alone. `path`
// begins the messages.
//   errors  InvalidArgument  a field is of another type or out of range
absl::StatusOr<DictionaryLearningConfig> ParseDictionaryLearningConfig(const nlohmann::json& cfg,
                                                                       absl::string_view path);

}  // namespace featurescope

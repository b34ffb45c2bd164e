// cfg.json of EleutherAI's sparsify. Torch-free.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/sae/config.h"

namespace featurescope {

struct SparsifyConfig {
  SaeConfig config;
  SaeRecognition recognition;
};

// `hookpoint` is the name of the directory that holds the file, as sparsify names it by the hooked
// module ("layers.3.mlp"); other names tell nothing. `path` begins the messages.
//
//   errors  InvalidArgument  a field is missing, of another type or out of range
//           Unimplemented    a setting that changes the numbers and is not supported, by name
absl::StatusOr<SparsifyConfig> ParseSparsifyConfig(const nlohmann::json& cfg,
                                                   absl::string_view hookpoint,
                                                   absl::string_view path);

}  // namespace featurescope

// SAEs from and to disk.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/sae/sae.h"

namespace featurescope {

// Loads a SAELens directory (versions 3 to 6): cfg.json, sae_weights.safetensors.
//
//   errors  NotFound         a file is missing; the message names it
//           InvalidArgument  a file is malformed; the message names file and field or tensor
//           Unimplemented    an architecture or setting that is not supported, by name
absl::StatusOr<std::shared_ptr<const Sae>> LoadSae(absl::string_view directory,
                                                   torch::Device device);

// Only what cfg.json says.
absl::StatusOr<SaeConfig> ReadSaeConfig(absl::string_view directory);

// Writes a SAELens 6 directory that SAELens reads. The directory must exist; files are replaced
// atomically, cfg.json last.
absl::Status SaveSae(const Sae& sae, absl::string_view directory);

}  // namespace featurescope

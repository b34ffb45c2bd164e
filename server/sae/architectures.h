// The SAE architectures, one line each; Sae::Create looks here.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/sae/sae.h"

namespace featurescope {

struct SaeArchitecture {
  absl::string_view name;  // as cfg.json spells it
  // Makes one of checked parameters; may refuse a config that this architecture does not have.
  absl::StatusOr<std::shared_ptr<Sae>> (*make)(SaeConfig config, SaeParameters parameters);
};

absl::StatusOr<std::shared_ptr<Sae>> MakeStandardSae(SaeConfig config, SaeParameters parameters);
absl::StatusOr<std::shared_ptr<Sae>> MakeTopKSae(SaeConfig config, SaeParameters parameters);

inline constexpr SaeArchitecture kSaeArchitectures[] = {
    {"standard", MakeStandardSae},
    {"topk", MakeTopKSae},
};

// Unimplemented, listing the names above, when `name` is none of them.
absl::Status CheckSaeArchitecture(absl::string_view name);

}  // namespace featurescope

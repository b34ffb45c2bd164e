// What the table of published releases knows of an SAE.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "server/catalog/catalog.h"
#include "server/hub/sae_releases.h"

namespace featurescope {

KnownOfSae KnownOf(const SaeSource& source);

// The same for a path in a hub's cache (.../models--ORG--NAME/snapshots/COMMIT/...): a published
// SAE needs its options however it is added. Nothing is known of any other path.
KnownOfSae KnownOfPath(absl::string_view path);

}  // namespace featurescope

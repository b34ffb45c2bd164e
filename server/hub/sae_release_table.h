// The table behind SaeReleases().
#pragma once

#include <vector>

#include "server/hub/sae_releases.h"

namespace featurescope {

std::vector<SaeRelease> MakeSaeReleaseTable();

}  // namespace featurescope

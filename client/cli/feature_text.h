// A feature and its examples as text for a terminal.
#pragma once

#include <string>

#include "client/cli/terminal.h"
#include "featurescope/v1/features.pb.h"

namespace featurescope {

// One line: the strongest activation, then the window's tokens shaded by theirs.
std::string HeatStrip(const Terminal& terminal, const v1::Example& example);

// Several lines: statistics, histogram, logit effects.
std::string DescribeFeature(const Terminal& terminal, const v1::Feature& feature);

}  // namespace featurescope

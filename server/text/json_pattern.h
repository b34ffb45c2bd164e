// {"String": "..."} and {"Regex": "..."}, as sections of a tokenizer.json write what to look for.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "server/text/json_section.h"
#include "server/text/split_pattern.h"

namespace featurescope {

// The field "pattern" of `section`. Errors as SplitPattern::Expression; InvalidArgument also for an
// empty string and for anything else.
absl::StatusOr<std::unique_ptr<const SplitPattern>> ReadPattern(const JsonSection& section);

}  // namespace featurescope

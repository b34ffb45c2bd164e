// The step that cuts at a pattern, in the ways that tokenizer.json knows.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "server/text/json_section.h"
#include "server/text/pre_tokenizer.h"
#include "server/text/split_pattern.h"

namespace featurescope {

// What becomes of the matches.
enum class SplitBehavior {
  kIsolated,            // parts of their own
  kRemoved,             // dropped
  kMergedWithPrevious,  // joined to the part before, one match each
  kMergedWithNext,      // joined to the part behind, one match each
  kContiguous,          // parts of their own, neighbouring ones together
};

// The field `key` of a section.
absl::StatusOr<SplitBehavior> ReadSplitBehavior(const JsonSection& section, absl::string_view key);

// `invert`: what lies between the matches counts as the matches.
std::unique_ptr<const PreTokenizer> MakeSplitStep(std::unique_ptr<const SplitPattern> pattern,
                                                  SplitBehavior behavior, bool invert = false);

}  // namespace featurescope

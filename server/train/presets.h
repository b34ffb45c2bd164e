// Published training recipes by name.
//
// A preset sets every field that its source states, and those that its source's code fixes; a user
// adds what belongs to the run (tokens, seed, maybe d_sae and k) and may change the rest. What a
// preset cannot know from its source is in `open`, and what is done otherwise than there in
// `differs`.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/train/spec.h"

namespace featurescope {

struct Preset {
  absl::string_view name;
  absl::string_view title;
  absl::string_view source;
  absl::string_view model;    // what it was for; may be empty
  absl::string_view hook;     // as TransformerLens names it; may be empty
  absl::string_view open;     // fields that the source leaves to its user, with what stands there
  absl::string_view differs;  // from the source; may be empty
  void (*apply)(TrainingSpec& spec);
};

absl::Span<const Preset> AllPresets();

// The defaults with a preset applied.   errors  NotFound  listing the names
absl::StatusOr<TrainingSpec> PresetSpec(absl::string_view name);

}  // namespace featurescope

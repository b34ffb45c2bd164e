// Edits of a feature's activation while the model runs.
//
// At one position, all edits of one SAE act in order on one code f = encode(x); then, of the value
// y at the hook that the SAE writes (x itself, but for transcoders),
//   error term kept     y' = y + (decode(f') - decode(f))
//   error term dropped  y' = decode(f')
// Edits of different SAEs at one hook point follow each other in the order of their first edit.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/explore/activations.h"

namespace featurescope {

enum class EditOperation {
  kAdd,         // the activation is raised by value
  kSet,         // becomes value
  kScale,       // is multiplied by value
  kAblateZero,  // becomes 0; takes no value
};

// What an edit's value is measured in.
enum class EditUnit {
  kFeature,     // activation units of the feature
  kResidual,    // length of the vector added: the decoder row is taken at norm 1; kAdd only
  kFeatureMax,  // multiples of the largest activation in the SAE's index; kAdd and kSet
  kFeatureP99,  // multiples of the 99th percentile of the positive ones; kAdd and kSet
};

enum class ErrorTerm { kKept, kDropped };

enum class PositionScope { kAll, kPrompt, kGenerated };

struct EditPositions {
  PositionScope scope = PositionScope::kAll;
  std::vector<uint32_t> indices;  // only these (0 is the first token, BOS included); empty: all
  bool include_special_tokens = false;  // unset: BOS and the like are left alone
};

struct Intervention {
  SaeRef sae;
  uint32_t feature = 0;
  EditOperation operation = EditOperation::kAdd;
  float value = 0;
  EditUnit unit = EditUnit::kFeature;
  // What 1 of the unit is, in activation units: the feature's maximum or 99th percentile. For
  // kFeatureMax and kFeatureP99 only; greater than 0.
  float unit_size = 0;
  ErrorTerm error_term = ErrorTerm::kKept;  // the same in all edits of one SAE
  EditPositions positions;
};

constexpr size_t kMaxInterventions = 64;

// What an intervention did, position by position.
struct EditProof {
  std::vector<uint32_t> positions;  // in prompt + generated tokens
  // The feature's activation there, as the SAE sees it in x and in x'. A transcoder does not read
  // what it writes: after is then what the edits have made of the code.
  std::vector<float> activation_before;
  std::vector<float> activation_after;
  std::vector<float> relative_change;  // |y' - y| / |y| of all edits of this SAE there
};

// Checks what can be checked before running.
//
//   name    what the error messages call the intervention, e.g. "interventions[0]"
//   errors  InvalidArgument  feature out of range; a value that is not finite; an operation that
//                            does not go with unit or value; an SAE that does not fit the model
absl::Status Validate(const Intervention& intervention, const Transformer& model,
                      absl::string_view name);

// Whether the edit applies to the token at `position`. REQUIRES: positions.indices is ascending.
bool AppliesTo(const EditPositions& positions, uint32_t position, uint32_t n_prompt_tokens,
               bool special);

}  // namespace featurescope

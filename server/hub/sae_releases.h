// Well-known SAE releases: where their files lie, which model and hook point they belong to, and
// what must be set right although no file says it.
//
//   gpt2-small-res-jb/blocks.8.hook_resid_pre
//   gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82    .../canonical: the L0 nearest to 100
//   ORG/REPO[/path][@REVISION]                                any other repository
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/hub/hub_files.h"

namespace featurescope {

// What a release demands of the binding of its SAEs to their model. Values that the files state
// themselves are left open here: the files win.
struct SaeReleaseOptions {
  bool center_writing_weights = false;  // trained on TransformerLens' centred activations
  std::optional<bool> prepend_bos;
  std::optional<int> context_size;  // tokens
  // For files that say normalize_activations expected_average_only_in but not by how much: the
  // activations were multiplied by it in training. Folded in, W_enc is multiplied by it, W_dec and
  // b_dec are divided. 0: nothing to fold.
  double norm_scaling_factor = 0;
  std::string note;  // what a user should know, one sentence; often ""
};

// One SAE to fetch.
struct SaeSource {
  std::string release;  // the table's name; "": not in the table
  std::string id;       // within the release
  std::string repo;
  std::string revision = "main";
  std::string path;           // folder or file in the repository; "": the repository itself
  std::string model;          // repository of the model; "": the files must say
  std::string hook_name;      // "": the files must say
  std::string hook_name_out;  // transcoders
  SaeReleaseOptions options;
};

// One family of ids of a release. {L} stands for a layer, {N} for a number, {W} for a width such as
// 16k, {A} for a name.
struct SaeIdPattern {
  std::string id;                  // layer_{L}/width_{W}/average_l0_{N}
  std::string path;                // the same placeholders
  std::string hook_name;           // blocks.{L}.hook_resid_post
  std::string hook_name_out;       // transcoders only
  double norm_scaling_factor = 0;  // of this id; see SaeReleaseOptions
};

struct SaeRelease {
  std::string name;
  std::string repo;
  std::string model;
  std::vector<SaeIdPattern> ids;
  SaeReleaseOptions options;
  std::string about;  // one line for a list of releases
};

// The table, by name.
absl::Span<const SaeRelease> SaeReleases();

// What `spec` names; nothing is asked of a hub. A path that ends in `canonical` is still to be
// completed by CompleteSaeSource.
//
//   InvalidArgument  neither RELEASE/ID nor ORG/REPO[/path][@REVISION]
//   NotFound         a known release, but no such form of id; the message lists the forms
absl::StatusOr<SaeSource> ResolveSaeSource(absl::string_view spec);

// Whether the source's path ends in `canonical`.
bool IsOpenChoice(const SaeSource& source);

// Checks that the source's path exists in the repository and completes `canonical`. NotFound lists
// what there is.
absl::StatusOr<SaeSource> CompleteSaeSource(SaeSource source, const HubListing& listing);

}  // namespace featurescope

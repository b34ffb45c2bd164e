// Which files of a repository are fetched.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/hub/hub_files.h"

namespace featurescope {

constexpr char kWeightIndex[] = "model.safetensors.index.json";

// The files that match one of the shell patterns: `*` also matches `/`, `dir/` means all below it.
// InvalidArgument naming the pattern that matches nothing.
absl::StatusOr<std::vector<HubFile>> SelectByPatterns(const HubListing& listing,
                                                      absl::Span<const std::string> patterns);

// What a model needs beside its weights: configuration and tokenizer, from the repository's root.
std::vector<HubFile> SelectModelConfig(const HubListing& listing);

// A model's weights: the shards of kWeightIndex when `index_json`, its content, is not empty;
// else model.safetensors, or the only .safetensors of the root.
//
//   FailedPrecondition  no safetensors, or several without an index: lists what there is
//   InvalidArgument     a bad index, or one that names a shard the repository does not have
absl::StatusOr<std::vector<HubFile>> SelectModelWeights(const HubListing& listing,
                                                        absl::string_view index_json);

// An SAE at `path`, a folder ("" for the root) or a weight file: its weights and the JSON files
// beside them. Of several kinds of weights the first of .safetensors, .npz, .pt counts; optimizer
// and trainer states are left out. FailedPrecondition: no weights there, listing what there is.
absl::StatusOr<std::vector<HubFile>> SelectSae(const HubListing& listing, absl::string_view path);

// The folders at or below `prefix` that hold an SAE's weights, and weight files that lie in the
// root, sorted by name with numbers in their order.
std::vector<std::string> SaePlaces(const HubListing& listing, absl::string_view prefix);

// "a, b, c and 7 more".
std::string ListSome(absl::Span<const std::string> names, size_t most = 12);

}  // namespace featurescope

#include "server/hub/selection.h"

#include <fnmatch.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"

namespace featurescope {
namespace {

bool InRoot(absl::string_view path) { return !absl::StrContains(path, '/'); }

// Without the slash at the end; "" for the root.
absl::string_view FolderOf(absl::string_view path) {
  const size_t slash = path.find_last_of('/');
  return slash == absl::string_view::npos ? "" : path.substr(0, slash);
}

bool IsModelConfig(absl::string_view path) {
  static const auto* names = new std::set<std::string>{"generation_config.json",
                                                       "tokenizer.json",
                                                       "tokenizer_config.json",
                                                       "tokenizer.model",
                                                       "special_tokens_map.json",
                                                       "added_tokens.json",
                                                       "vocab.json",
                                                       "merges.txt",
                                                       "chat_template.json",
                                                       "chat_template.jinja",
                                                       kWeightIndex};
  return names->count(std::string(path)) > 0 ||
         (absl::StartsWith(path, "config") && absl::EndsWith(path, ".json") && InRoot(path));
}

// 0: the kind we prefer; -1: no SAE's weights.
int WeightKind(absl::string_view path) {
  const absl::string_view name = BaseName(path);
  for (absl::string_view state : {"activations_store_state", "trainer_state", "optimizer",
                                  "lr_scheduler", "rank_", "sparsity.", "log_feature_sparsity"}) {
    if (absl::StartsWith(name, state)) return -1;
  }
  if (name == "state.pt") return -1;
  if (absl::EndsWith(name, ".safetensors")) return 0;
  if (absl::EndsWith(name, ".npz")) return 1;
  if (absl::EndsWith(name, ".pt")) return 2;
  return -1;
}

// SAELens writes how often features fire beside the weights.
bool IsSparsity(absl::string_view path) { return BaseName(path) == "sparsity.safetensors"; }

// Llama Scope keeps the weights one folder below the configuration.
constexpr absl::string_view kNestedWeights = "checkpoints/final.safetensors";

// Orders `layer_2` before `layer_10`.
bool NaturalLess(absl::string_view a, absl::string_view b) {
  while (!a.empty() && !b.empty()) {
    if (absl::ascii_isdigit(a[0]) && absl::ascii_isdigit(b[0])) {
      const auto digits = [](absl::string_view* text) {
        while (text->size() > 1 && (*text)[0] == '0' && absl::ascii_isdigit((*text)[1])) {
          text->remove_prefix(1);
        }
        size_t n = 0;
        while (n < text->size() && absl::ascii_isdigit((*text)[n])) ++n;
        const absl::string_view number = text->substr(0, n);
        text->remove_prefix(n);
        return number;
      };
      const absl::string_view x = digits(&a), y = digits(&b);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
      continue;
    }
    if (a[0] != b[0]) return a[0] < b[0];
    a.remove_prefix(1);
    b.remove_prefix(1);
  }
  return a.size() < b.size();
}

// The weights of the one SAE in a folder.
absl::StatusOr<HubFile> OneOf(const std::vector<HubFile>& weights, absl::string_view repo,
                              absl::string_view folder) {
  if (weights.size() == 1) return weights[0];
  std::vector<std::string> names;
  for (const HubFile& file : weights) {
    for (absl::string_view usual : {"sae_weights.safetensors", "sae.safetensors", "ae.pt"}) {
      if (BaseName(file.path) == usual) return file;
    }
    names.push_back(file.path);
  }
  return FailedPrecondition(repo, folder.empty() ? "" : ": ", folder, " holds ", weights.size(),
                            " files of weights; choose one: ", ListSome(names));
}

std::string WhatThereIs(const HubListing& listing) {
  std::vector<std::string> names;
  for (const HubFile& file : listing.files) {
    if (InRoot(file.path)) names.push_back(file.path);
  }
  return names.empty() ? "no files in its root" : ListSome(names);
}

absl::StatusOr<std::vector<HubFile>> Shards(const HubListing& listing,
                                            absl::string_view index_json) {
  const std::string what = absl::StrCat(listing.repo, ": ", kWeightIndex);
  ASSIGN_OR_RETURN(const nlohmann::json index, ParseJson(index_json, what));
  const nlohmann::json* map = JsonFind(index, "weight_map");
  if (map == nullptr || !map->is_object() || map->empty()) {
    return InvalidArgument(what, ": has no \"weight_map\"");
  }
  std::set<std::string> names;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string()) return InvalidArgument(what, ": weight_map has no file for ", tensor);
    names.insert(shard.get<std::string>());
  }
  std::vector<HubFile> shards;
  for (const std::string& name : names) {
    const HubFile* file = InRoot(name) ? listing.Find(name) : nullptr;
    if (file == nullptr || !absl::EndsWith(name, ".safetensors")) {
      return InvalidArgument(what, ": names \"", name, "\", which is not there");
    }
    shards.push_back(*file);
  }
  return shards;
}

}  // namespace

std::string ListSome(absl::Span<const std::string> names, size_t most) {
  std::string text = absl::StrJoin(names.subspan(0, most), ", ");
  if (names.size() > most) absl::StrAppend(&text, " and ", names.size() - most, " more");
  return text;
}

absl::StatusOr<std::vector<HubFile>> SelectByPatterns(const HubListing& listing,
                                                      absl::Span<const std::string> patterns) {
  std::vector<std::string> full(patterns.begin(), patterns.end());
  for (std::string& pattern : full) {
    if (absl::EndsWith(pattern, "/")) pattern += "*";
  }
  std::vector<bool> matched(full.size(), false);
  std::vector<HubFile> files;
  for (const HubFile& file : listing.files) {
    bool wanted = false;
    for (size_t i = 0; i < full.size(); ++i) {
      if (fnmatch(full[i].c_str(), file.path.c_str(), 0) != 0) continue;
      matched[i] = true;
      wanted = true;
    }
    if (wanted) files.push_back(file);
  }
  for (size_t i = 0; i < full.size(); ++i) {
    if (!matched[i]) {
      return InvalidField("include", "no file of ", listing.repo, " matches \"", patterns[i],
                          "\"; there is ", WhatThereIs(listing));
    }
  }
  return files;
}

std::vector<HubFile> SelectModelConfig(const HubListing& listing) {
  std::vector<HubFile> files;
  for (const HubFile& file : listing.files) {
    if (IsModelConfig(file.path)) files.push_back(file);
  }
  return files;
}

absl::StatusOr<std::vector<HubFile>> SelectModelWeights(const HubListing& listing,
                                                        absl::string_view index_json) {
  if (!index_json.empty()) return Shards(listing, index_json);
  if (const HubFile* single = listing.Find("model.safetensors")) return std::vector{*single};
  std::vector<HubFile> files;
  std::vector<std::string> names;
  for (const HubFile& file : listing.files) {
    if (!InRoot(file.path) || !absl::EndsWith(file.path, ".safetensors")) continue;
    files.push_back(file);
    names.push_back(file.path);
  }
  // One shard alone, as an interrupted download may have left it, is no model.
  if (files.size() == 1 && !absl::StrContains(names[0], "-of-")) return files;
  if (files.empty()) {
    return FailedPrecondition(listing.repo, "@", listing.commit,
                              " has no .safetensors, the only format of weights that is read "
                              "without running code; it has ",
                              WhatThereIs(listing));
  }
  return FailedPrecondition(
      listing.repo, " has several .safetensors but no ", kWeightIndex,
      " that says which belong together; choose with --include: ", ListSome(names));
}

std::vector<std::string> SaePlaces(const HubListing& listing, absl::string_view prefix) {
  std::set<std::string> places;
  for (const HubFile& file : listing.files) {
    absl::string_view path = file.path;
    if (!prefix.empty() &&
        (!absl::ConsumePrefix(&path, prefix) || path.empty() || path[0] != '/')) {
      continue;
    }
    if (WeightKind(file.path) < 0) continue;
    absl::string_view folder = FolderOf(file.path);
    if (absl::EndsWith(file.path, absl::StrCat("/", kNestedWeights))) folder = FolderOf(folder);
    places.insert(folder.empty() ? file.path : std::string(folder));
  }
  std::vector<std::string> sorted(places.begin(), places.end());
  std::sort(sorted.begin(), sorted.end(), NaturalLess);
  return sorted;
}

absl::StatusOr<std::vector<HubFile>> SelectSae(const HubListing& listing, absl::string_view path) {
  const HubFile* single = path.empty() ? nullptr : listing.Find(path);
  const absl::string_view folder = single != nullptr ? FolderOf(path) : path;
  const HubFile* nested = listing.Find(folder.empty() ? std::string(kNestedWeights)
                                                      : absl::StrCat(folder, "/", kNestedWeights));
  std::vector<HubFile> beside;
  std::vector<HubFile> weights[3];
  for (const HubFile& file : listing.files) {
    if (FolderOf(file.path) != folder) continue;
    if (absl::EndsWith(file.path, ".json") || IsSparsity(file.path)) beside.push_back(file);
    if (const int kind = WeightKind(file.path); kind >= 0) weights[kind].push_back(file);
  }
  if (single != nullptr) {
    if (WeightKind(path) < 0) {
      return FailedPrecondition(listing.repo, ": ", path,
                                " is no file of weights (.safetensors, .npz or .pt)");
    }
    beside.push_back(*single);
    return beside;
  }
  for (const std::vector<HubFile>& kind : weights) {
    if (kind.empty()) continue;
    ASSIGN_OR_RETURN(const HubFile chosen, OneOf(kind, listing.repo, path));
    beside.push_back(chosen);
    return beside;
  }
  if (nested != nullptr) {
    beside.push_back(*nested);
    return beside;
  }
  const std::vector<std::string> places = SaePlaces(listing, path);
  return FailedPrecondition(listing.repo, path.empty() ? "" : ": ", path,
                            " holds no SAE's weights itself; ",
                            places.empty() ? absl::StrCat("there is ", WhatThereIs(listing))
                                           : absl::StrCat("choose one of ", ListSome(places)));
}

}  // namespace featurescope

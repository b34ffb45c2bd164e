// Reads a config.json key by key and remembers which it has read.
//
// A key that nothing reads is an error unless it is known to have no part in the maths, or says
// nothing (null, false, empty): it would change what the program that wrote it computes, and its
// absence here would go unnoticed.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace featurescope {

// Not thread-safe. `json` must outlive it; `what` (a path) begins every error message. The typed
// getters are those of formats/json.h: InvalidArgument naming the key, its value and the range.
class ConfigReader {
 public:
  ConfigReader(const nlohmann::json& json, absl::string_view what) : json_(json), what_(what) {}

  const std::string& what() const { return what_; }
  // Whether the key is there and not null.
  bool Has(absl::string_view key) const;
  // Whether the key is there, be it null: to some keys null means "none", and absent a default.
  bool Mentions(absl::string_view key) const { return json_.contains(std::string(key)); }
  // nullptr where the key is absent or null.
  const nlohmann::json* Find(absl::string_view key);

  absl::StatusOr<int64_t> Int(absl::string_view key, int64_t lo, int64_t hi);
  absl::StatusOr<int64_t> IntOr(absl::string_view key, int64_t otherwise, int64_t lo, int64_t hi);
  absl::StatusOr<double> Float(absl::string_view key, double lo, double hi);
  absl::StatusOr<double> FloatOr(absl::string_view key, double otherwise, double lo, double hi);
  absl::StatusOr<bool> BoolOr(absl::string_view key, bool otherwise);
  absl::StatusOr<std::string> StringOr(absl::string_view key, absl::string_view otherwise);

  // Unimplemented, with the key and its value, unless it is absent, null or `harmless`.
  absl::Status Require(absl::string_view key, const nlohmann::json& harmless);
  // These have no part in the maths of this architecture.
  void Ignore(std::initializer_list<absl::string_view> keys);

  // Unimplemented, naming the first key that was neither read nor is known to be inert.
  absl::Status CheckAllKnown() const;

 private:
  void Use(absl::string_view key) { used_.insert(std::string(key)); }

  const nlohmann::json& json_;
  std::string what_;
  absl::flat_hash_set<std::string> used_;
};

}  // namespace featurescope

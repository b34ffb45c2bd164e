// Bounded JSON: parsing untrusted files, and typed fields with errors that name file and field.
//
// Stricter than the language: duplicate keys are refused (parsers disagree on them), nesting is
// capped, text must be valid UTF-8. No exception leaves this file.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace featurescope {

constexpr int kMaxJsonDepth = 32;
constexpr uint64_t kMaxConfigBytes = 4u << 20;

// Parses one JSON value. `what` (a path) begins every error message. Depth 1 is `[]` or `{}`.
// InvalidArgument: malformed, nested deeper than `max_depth`, duplicate key.
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, absl::string_view what,
                                         int max_depth = kMaxJsonDepth);

// ReadFile and ParseJson.
absl::StatusOr<nlohmann::json> ReadJsonFile(const std::string& path,
                                            uint64_t max_bytes = kMaxConfigBytes,
                                            int max_depth = kMaxJsonDepth);

// Fields of the object `json`, which came from `what` (a path). InvalidArgument when the field is
// absent or null, of another type, or outside [lo, hi]; a number written as 3.0 is no integer.
absl::StatusOr<int64_t> JsonInt(const nlohmann::json& json, absl::string_view key,
                                absl::string_view what,
                                int64_t lo = std::numeric_limits<int64_t>::min(),
                                int64_t hi = std::numeric_limits<int64_t>::max());
absl::StatusOr<double> JsonFloat(const nlohmann::json& json, absl::string_view key,
                                 absl::string_view what,
                                 double lo = std::numeric_limits<double>::lowest(),
                                 double hi = std::numeric_limits<double>::max());
absl::StatusOr<bool> JsonBool(const nlohmann::json& json, absl::string_view key,
                              absl::string_view what);
absl::StatusOr<std::string> JsonString(const nlohmann::json& json, absl::string_view key,
                                       absl::string_view what);

// The same with a default for a field that is absent or null.
absl::StatusOr<int64_t> JsonIntOr(const nlohmann::json& json, absl::string_view key,
                                  absl::string_view what, int64_t otherwise,
                                  int64_t lo = std::numeric_limits<int64_t>::min(),
                                  int64_t hi = std::numeric_limits<int64_t>::max());
absl::StatusOr<double> JsonFloatOr(const nlohmann::json& json, absl::string_view key,
                                   absl::string_view what, double otherwise,
                                   double lo = std::numeric_limits<double>::lowest(),
                                   double hi = std::numeric_limits<double>::max());
absl::StatusOr<bool> JsonBoolOr(const nlohmann::json& json, absl::string_view key,
                                absl::string_view what, bool otherwise);
absl::StatusOr<std::string> JsonStringOr(const nlohmann::json& json, absl::string_view key,
                                         absl::string_view what, absl::string_view otherwise);

// The value of `key`, or nullptr when `json` is no object or the field is absent or null.
const nlohmann::json* JsonFind(const nlohmann::json& json, absl::string_view key);

}  // namespace featurescope

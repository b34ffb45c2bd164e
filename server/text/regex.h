// Regular expressions from files, which nobody has vetted: bounded in size, time and memory.
//
// PCRE2 with its JIT compiler, on patterns as Oniguruma reads them (regex_dialect.h).
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace featurescope {

// Immutable; const and thread-safe.
class Regex {
 public:
  static constexpr size_t kMaxPatternBytes = 16u << 10;

  //   Unimplemented    a construct that is not supported, quoted
  //   InvalidArgument  malformed, or too large
  static absl::StatusOr<std::unique_ptr<const Regex>> Compile(absl::string_view pattern);
  ~Regex();

  // Calls on_match(begin, end) for the matches from left to right, each beginning at or behind the
  // end of the one before; of empty matches those that do not touch the match before. Ends with
  // the first error that on_match returns.
  // REQUIRES: text is valid UTF-8. ResourceExhausted: the pattern backtracks without end on this
  // text, or takes seconds longer than any sane one.
  absl::Status ForEachMatch(
      absl::string_view text,
      absl::FunctionRef<absl::Status(size_t begin, size_t end)> on_match) const;

 private:
  Regex() = default;
  struct Code;
  std::unique_ptr<Code> code_;
  std::string pattern_;  // as given, for messages
};

}  // namespace featurescope

// What normalizers, pre-tokenizers and decoders look for in a text: a string, a class of
// characters, or a regular expression.
#pragma once

#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/text/piece_matchers.h"

namespace featurescope {

// Immutable; const and thread-safe.
class SplitPattern {
 public:
  using OnPart = absl::FunctionRef<absl::Status(size_t begin, size_t end, bool is_match)>;

  // REQUIRES: text is not empty.
  static std::unique_ptr<const SplitPattern> Literal(absl::string_view text);
  // Each character of the class by itself.
  static std::unique_ptr<const SplitPattern> Characters(bool (*belongs)(char32_t));
  // What the scanner finds.
  static std::unique_ptr<const SplitPattern> Scanner(PieceMatcher matcher);
  // As tokenizer.json writes it; those of well-known models run as scanners.
  // Errors as Regex::Compile.
  static absl::StatusOr<std::unique_ptr<const SplitPattern>> Expression(absl::string_view pattern);

  virtual ~SplitPattern() = default;

  // Calls on_part for matches and for what lies between them, in order; together they cover the
  // text. Empty matches are reported, empty gaps are not. Ends with the first error of on_part.
  // REQUIRES: text is valid UTF-8. ResourceExhausted: as Regex::ForEachMatch.
  virtual absl::Status ForEachPart(absl::string_view text, OnPart on_part) const = 0;

  // `text` with all matches replaced. Returns false, *out untouched, when there is none.
  absl::StatusOr<bool> ReplaceAll(absl::string_view text, absl::string_view replacement,
                                  std::string* out) const;
};

}  // namespace featurescope

#include "server/text/split_pattern.h"

#include <utility>

#include "server/base/status.h"
#include "server/text/characters.h"
#include "server/text/regex.h"

namespace featurescope {
namespace {

class LiteralPattern final : public SplitPattern {
 public:
  explicit LiteralPattern(absl::string_view text) : literal_(text) {}

  absl::Status ForEachPart(absl::string_view text, OnPart on_part) const override {
    size_t at = 0;
    for (size_t found; (found = text.find(literal_, at)) != absl::string_view::npos;) {
      if (found > at) RETURN_IF_ERROR(on_part(at, found, false));
      at = found + literal_.size();
      RETURN_IF_ERROR(on_part(found, at, true));
    }
    return at < text.size() ? on_part(at, text.size(), false) : absl::OkStatus();
  }

 private:
  const std::string literal_;
};

class CharactersPattern final : public SplitPattern {
 public:
  explicit CharactersPattern(bool (*belongs)(char32_t)) : belongs_(belongs) {}

  absl::Status ForEachPart(absl::string_view text, OnPart on_part) const override {
    size_t gap = 0;
    for (size_t at = 0; at < text.size();) {
      const Character c = CharacterAt(text, at);
      const size_t begin = at;
      at += c.size;
      if (!belongs_(c.code)) continue;
      if (begin > gap) RETURN_IF_ERROR(on_part(gap, begin, false));
      RETURN_IF_ERROR(on_part(begin, at, true));
      gap = at;
    }
    return gap < text.size() ? on_part(gap, text.size(), false) : absl::OkStatus();
  }

 private:
  bool (*const belongs_)(char32_t);
};

class ScannerPattern final : public SplitPattern {
 public:
  explicit ScannerPattern(PieceMatcher matcher) : matcher_(matcher) {}

  absl::Status ForEachPart(absl::string_view text, OnPart on_part) const override {
    size_t gap = 0;
    for (size_t at = 0; at < text.size();) {
      const size_t size = matcher_(text.substr(at));
      if (size == 0) {
        at += CharacterAt(text, at).size;
        continue;
      }
      if (at > gap) RETURN_IF_ERROR(on_part(gap, at, false));
      RETURN_IF_ERROR(on_part(at, at + size, true));
      gap = at += size;
    }
    return gap < text.size() ? on_part(gap, text.size(), false) : absl::OkStatus();
  }

 private:
  const PieceMatcher matcher_;
};

class RegexPattern final : public SplitPattern {
 public:
  explicit RegexPattern(std::unique_ptr<const Regex> regex) : regex_(std::move(regex)) {}

  absl::Status ForEachPart(absl::string_view text, OnPart on_part) const override {
    if (text.empty()) return absl::OkStatus();
    size_t gap = 0;
    const auto on_match = [&](size_t begin, size_t end) -> absl::Status {
      if (begin > gap) RETURN_IF_ERROR(on_part(gap, begin, false));
      gap = end;
      return on_part(begin, end, true);
    };
    RETURN_IF_ERROR(regex_->ForEachMatch(text, on_match));
    return gap < text.size() ? on_part(gap, text.size(), false) : absl::OkStatus();
  }

 private:
  const std::unique_ptr<const Regex> regex_;
};

}  // namespace

std::unique_ptr<const SplitPattern> SplitPattern::Literal(absl::string_view text) {
  return std::make_unique<LiteralPattern>(text);
}

std::unique_ptr<const SplitPattern> SplitPattern::Characters(bool (*belongs)(char32_t)) {
  return std::make_unique<CharactersPattern>(belongs);
}

std::unique_ptr<const SplitPattern> SplitPattern::Scanner(PieceMatcher matcher) {
  return std::make_unique<ScannerPattern>(matcher);
}

absl::StatusOr<std::unique_ptr<const SplitPattern>> SplitPattern::Expression(
    absl::string_view pattern) {
  if (const PieceMatcher matcher = FindPieceMatcher(pattern); matcher != nullptr) {
    return Scanner(matcher);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<const Regex> regex, Regex::Compile(pattern));
  return std::unique_ptr<const SplitPattern>(std::make_unique<RegexPattern>(std::move(regex)));
}

absl::StatusOr<bool> SplitPattern::ReplaceAll(absl::string_view text, absl::string_view replacement,
                                              std::string* out) const {
  bool found = false;
  std::string replaced;
  size_t copied = 0;
  RETURN_IF_ERROR(ForEachPart(text, [&](size_t begin, size_t end, bool is_match) {
    if (!is_match) return absl::OkStatus();
    if (!found) replaced.reserve(text.size());
    found = true;
    replaced.append(text.data() + copied, begin - copied);
    replaced.append(replacement.data(), replacement.size());
    copied = end;
    return absl::OkStatus();
  }));
  if (!found) return false;
  replaced.append(text.data() + copied, text.size() - copied);
  *out = std::move(replaced);
  return true;
}

}  // namespace featurescope

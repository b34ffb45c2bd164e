#include "server/text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/text/characters.h"
#include "server/text/charsmap.h"
#include "server/text/json_pattern.h"
#include "server/text/json_section.h"
#include "server/text/split_pattern.h"
#include "server/text/unicode_class.h"
#include "server/text/unicode_forms.h"

namespace featurescope {
namespace {

using NormalizerPtr = std::unique_ptr<const Normalizer>;

class FormNormalizer final : public Normalizer {
 public:
  explicit FormNormalizer(UnicodeForm form) : form_(form) {}
  absl::StatusOr<bool> Apply(absl::string_view text, TextPlace*, std::string* out) const override {
    return ToUnicodeForm(form_, text, out);
  }

 private:
  const UnicodeForm form_;
};

// Character by character, without regard to what is beside it.
class LowercaseNormalizer final : public Normalizer {
 public:
  absl::StatusOr<bool> Apply(absl::string_view text, TextPlace*, std::string* out) const override {
    std::string lower;
    lower.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
      const Character c = CharacterAt(text, at);
      at += c.size;
      if (c.code < 0x80) {
        lower.push_back(static_cast<char>(c.code >= 'A' && c.code <= 'Z' ? c.code + 32 : c.code));
      } else if (c.code == 0x130) {  // the one letter that becomes two
        lower += "i\u0307";
      } else {
        const utf8proc_int32_t code = utf8proc_tolower(static_cast<utf8proc_int32_t>(c.code));
        AppendUtf8(static_cast<char32_t>(code), &lower);
      }
    }
    *out = std::move(lower);
    return true;
  }
};

class PrependNormalizer final : public Normalizer {
 public:
  explicit PrependNormalizer(std::string prefix) : prefix_(std::move(prefix)) {}
  absl::StatusOr<bool> Apply(absl::string_view text, TextPlace* place,
                             std::string* out) const override {
    if (text.empty() || !place->opens_section) return false;
    *out = absl::StrCat(prefix_, text);
    return true;
  }

 private:
  const std::string prefix_;
};

class ReplaceNormalizer final : public Normalizer {
 public:
  ReplaceNormalizer(std::unique_ptr<const SplitPattern> pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  absl::StatusOr<bool> Apply(absl::string_view text, TextPlace* place,
                             std::string* out) const override {
    if (content_.empty() && place->opens_text) {
      RETURN_IF_ERROR(pattern_->ForEachPart(text, [&](size_t begin, size_t end, bool is_match) {
        if (begin == 0 && end > 0 && is_match) place->opens_text = false;
        return absl::OkStatus();
      }));
    }
    return pattern_->ReplaceAll(text, content_, out);
  }

 private:
  const std::unique_ptr<const SplitPattern> pattern_;
  const std::string content_;
};

class StripNormalizer final : public Normalizer {
 public:
  StripNormalizer(bool left, bool right) : left_(left), right_(right) {}
  absl::StatusOr<bool> Apply(absl::string_view text, TextPlace* place,
                             std::string* out) const override {
    absl::string_view stripped = text;
    if (left_ && place->opens_section) {
      while (!stripped.empty() && IsWhiteSpace(CharacterAt(stripped, 0).code)) {
        stripped.remove_prefix(CharacterAt(stripped, 0).size);
        place->opens_text = false;
      }
    }
    if (right_ && place->closes_section) {
      while (!stripped.empty()) {
        const Character last = CharacterBefore(stripped, stripped.size());
        if (!IsWhiteSpace(last.code)) break;
        stripped.remove_suffix(last.size);
      }
    }
    if (stripped.size() == text.size()) return false;
    *out = std::string(stripped);
    return true;
  }

 private:
  const bool left_;
  const bool right_;
};

class StripAccentsNormalizer final : public Normalizer {
 public:
  absl::StatusOr<bool> Apply(absl::string_view text, TextPlace* place,
                             std::string* out) const override {
    std::string kept;
    for (size_t at = 0; at < text.size();) {
      const Character c = CharacterAt(text, at);
      if (!IsMark(c.code)) {
        kept.append(text.data() + at, c.size);
      } else if (at == 0) {
        place->opens_text = false;
      }
      at += c.size;
    }
    if (kept.size() == text.size()) return false;
    *out = std::move(kept);
    return true;
  }
};

class PrecompiledNormalizer final : public Normalizer {
 public:
  explicit PrecompiledNormalizer(Charsmap map) : map_(std::move(map)) {}
  absl::StatusOr<bool> Apply(absl::string_view text, TextPlace*, std::string* out) const override {
    return map_.Map(text, out);
  }

 private:
  const Charsmap map_;
};

class SequenceNormalizer final : public Normalizer {
 public:
  explicit SequenceNormalizer(std::vector<NormalizerPtr> steps) : steps_(std::move(steps)) {}
  absl::StatusOr<bool> Apply(absl::string_view text, TextPlace* place,
                             std::string* out) const override {
    std::string current, next;
    bool changed = false;
    for (const NormalizerPtr& step : steps_) {
      ASSIGN_OR_RETURN(const bool stepped,
                       step->Apply(changed ? absl::string_view(current) : text, place, &next));
      if (!stepped) continue;
      changed = true;
      std::swap(current, next);
    }
    if (changed) *out = std::move(current);
    return changed;
  }

 private:
  const std::vector<NormalizerPtr> steps_;
};

absl::StatusOr<NormalizerPtr> Read(const JsonSection& section);

absl::StatusOr<NormalizerPtr> ReadSequence(const JsonSection& section) {
  RETURN_IF_ERROR(section.OnlyOptions({"normalizers"}));
  ASSIGN_OR_RETURN(const std::vector<JsonSection> list, section.List("normalizers"));
  std::vector<NormalizerPtr> steps;
  for (const JsonSection& one : list) {
    ASSIGN_OR_RETURN(NormalizerPtr step, Read(one));
    steps.push_back(std::move(step));
  }
  return NormalizerPtr(std::make_unique<SequenceNormalizer>(std::move(steps)));
}

absl::StatusOr<NormalizerPtr> ReadReplace(const JsonSection& section) {
  RETURN_IF_ERROR(section.OnlyOptions({"pattern", "content"}));
  ASSIGN_OR_RETURN(std::unique_ptr<const SplitPattern> pattern, ReadPattern(section));
  ASSIGN_OR_RETURN(std::string content, section.String("content"));
  return NormalizerPtr(std::make_unique<ReplaceNormalizer>(std::move(pattern), std::move(content)));
}

absl::StatusOr<NormalizerPtr> ReadPrecompiled(const JsonSection& section) {
  RETURN_IF_ERROR(section.OnlyOptions({"precompiled_charsmap"}));
  ASSIGN_OR_RETURN(const std::string base64, section.String("precompiled_charsmap"));
  auto map = Charsmap::FromBase64(base64);
  if (!map.ok()) return section.Annotated(map.status());
  return NormalizerPtr(std::make_unique<PrecompiledNormalizer>(*std::move(map)));
}

absl::StatusOr<NormalizerPtr> Read(const JsonSection& section) {
  static constexpr std::pair<absl::string_view, UnicodeForm> kForms[] = {
      {"NFC", UnicodeForm::kNfc},
      {"NFD", UnicodeForm::kNfd},
      {"NFKC", UnicodeForm::kNfkc},
      {"NFKD", UnicodeForm::kNfkd}};
  const std::string& type = section.type();
  for (const auto& [name, form] : kForms) {
    if (name != absl::string_view(type)) continue;
    RETURN_IF_ERROR(section.OnlyOptions({}));
    return NormalizerPtr(std::make_unique<FormNormalizer>(form));
  }
  if (type == "Lowercase" || type == "StripAccents") {
    RETURN_IF_ERROR(section.OnlyOptions({}));
    if (type == "Lowercase") return NormalizerPtr(std::make_unique<LowercaseNormalizer>());
    return NormalizerPtr(std::make_unique<StripAccentsNormalizer>());
  }
  if (type == "Prepend") {
    RETURN_IF_ERROR(section.OnlyOptions({"prepend"}));
    ASSIGN_OR_RETURN(std::string prefix, section.String("prepend"));
    return NormalizerPtr(std::make_unique<PrependNormalizer>(std::move(prefix)));
  }
  if (type == "Strip") {
    RETURN_IF_ERROR(section.OnlyOptions({"strip_left", "strip_right"}));
    ASSIGN_OR_RETURN(const bool left, section.Bool("strip_left"));
    ASSIGN_OR_RETURN(const bool right, section.Bool("strip_right"));
    return NormalizerPtr(std::make_unique<StripNormalizer>(left, right));
  }
  if (type == "Replace") return ReadReplace(section);
  if (type == "Precompiled") return ReadPrecompiled(section);
  if (type == "Sequence") return ReadSequence(section);
  return section.UnsupportedType();
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Normalizer>> Normalizer::Create(const nlohmann::json& json,
                                                                     absl::string_view where) {
  ASSIGN_OR_RETURN(const JsonSection section, JsonSection::Create(json, where));
  return Read(section);
}

}  // namespace featurescope

#include "server/text/pre_tokenizer.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/formats/utf8.h"
#include "server/text/byte_alphabet.h"
#include "server/text/characters.h"
#include "server/text/json_pattern.h"
#include "server/text/json_section.h"
#include "server/text/piece_matchers.h"
#include "server/text/split_step.h"
#include "server/text/unicode_class.h"

namespace featurescope {
namespace {

using Step = std::unique_ptr<const PreTokenizer>;

class ByteLevelStep final : public PreTokenizer {
 public:
  ByteLevelStep(bool add_prefix_space, bool use_regex)
      : add_prefix_space_(add_prefix_space), use_regex_(use_regex) {}

  absl::Status Split(const TextPart& part, OnTextPart on_part) const override {
    if (!add_prefix_space_ || part.continues || absl::StartsWith(part.text, " ")) {
      return Cut(part, on_part);
    }
    const std::string prefixed = absl::StrCat(" ", part.text);
    return Cut({prefixed, part.opens_text, false}, on_part);
  }

 private:
  absl::Status Cut(TextPart part, OnTextPart on_part) const {
    if (!use_regex_) return on_part(part);
    while (!part.text.empty()) {
      const size_t size = MatchGpt2(part.text);
      RETURN_IF_ERROR(on_part({part.text.substr(0, size), part.opens_text, part.continues}));
      part = {part.text.substr(size)};
    }
    return absl::OkStatus();
  }

  const bool add_prefix_space_;
  const bool use_regex_;
};

// Writes bytes as the characters that steps behind ByteLevel see.
class ToAlphabetStep final : public PreTokenizer {
 public:
  absl::Status Split(const TextPart& part, OnTextPart on_part) const override {
    const std::string characters = ToByteAlphabet(part.text);
    return on_part({characters, part.opens_text, part.continues});
  }
};

// And back.
class FromAlphabetStep final : public PreTokenizer {
 public:
  absl::Status Split(const TextPart& part, OnTextPart on_part) const override {
    const std::optional<std::string> bytes = FromByteAlphabet(part.text);
    if (!bytes) return Internal("a step behind ByteLevel has left the byte alphabet");
    return on_part({*bytes, part.opens_text, part.continues});
  }
};

class MetaspaceStep final : public PreTokenizer {
 public:
  enum class Prefix { kAlways, kFirst, kNever };
  MetaspaceStep(std::string mark, Prefix prefix, bool split) : mark_(mark), prefix_(prefix) {
    if (split) split_ = MakeSplitStep(SplitPattern::Literal(mark), SplitBehavior::kMergedWithNext);
  }

  absl::Status Split(const TextPart& part, OnTextPart on_part) const override {
    std::string marked = absl::StrReplaceAll(part.text, {{" ", mark_}});
    const bool wanted =
        prefix_ == Prefix::kAlways || (prefix_ == Prefix::kFirst && part.opens_text);
    if (wanted && !part.continues && !absl::StartsWith(marked, mark_)) marked.insert(0, mark_);
    const TextPart whole{marked, part.opens_text, part.continues};
    return split_ == nullptr ? on_part(whole) : split_->Split(whole, on_part);
  }

 private:
  const std::string mark_;
  const Prefix prefix_;
  Step split_;  // null: texts stay whole
};

bool IsAnyPunctuation(char32_t c) {
  return IsPunctuation(c) || (c < 0x80 && IsSymbol(c));  // ASCII symbols count
}

// \w+|[^\w\s]+
size_t MatchWordsAndSigns(absl::string_view text) {
  const auto kind = [](char32_t c) { return IsWordCharacter(c) ? 2 : IsWhiteSpace(c) ? 0 : 1; };
  const int first = kind(CharacterAt(text, 0).code);
  size_t at = 0;
  while (first != 0 && at < text.size()) {
    const Character c = CharacterAt(text, at);
    if (kind(c.code) != first) break;
    at += c.size;
  }
  return at;
}

absl::StatusOr<Step> ReadByteLevel(const JsonSection& section) {
  RETURN_IF_ERROR(section.OnlyOptions({"add_prefix_space", "trim_offsets", "use_regex"}));
  ASSIGN_OR_RETURN(const bool add_prefix_space, section.Bool("add_prefix_space"));
  ASSIGN_OR_RETURN(const bool use_regex, section.BoolOr("use_regex", true));
  return Step(std::make_unique<ByteLevelStep>(add_prefix_space, use_regex));
}

// Of old, "add_prefix_space" said what "prepend_scheme" says now.
absl::StatusOr<Step> ReadMetaspace(const JsonSection& section) {
  RETURN_IF_ERROR(section.OnlyOptions(
      {"replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"}));
  ASSIGN_OR_RETURN(std::string mark, section.OneCharacter("replacement"));
  ASSIGN_OR_RETURN(const bool add_prefix_space, section.BoolOr("add_prefix_space", true));
  ASSIGN_OR_RETURN(const bool split, section.BoolOr("split", true));
  ASSIGN_OR_RETURN(const std::string scheme,
                   JsonStringOr(section.json(), "prepend_scheme", section.where(),
                                add_prefix_space ? "always" : "never"));
  MetaspaceStep::Prefix prefix = MetaspaceStep::Prefix::kNever;
  if (scheme == "always" || scheme == "first") {
    prefix = scheme == "first" ? MetaspaceStep::Prefix::kFirst : MetaspaceStep::Prefix::kAlways;
    if (!add_prefix_space) {
      return InvalidArgument(section.where(), ": add_prefix_space is false, but prepend_scheme is ",
                             scheme);
    }
  } else if (scheme != "never") {
    return Unimplemented(section.where(), ": prepend_scheme ", PrintableUtf8(scheme, 60),
                         " is not supported");
  }
  return Step(std::make_unique<MetaspaceStep>(std::move(mark), prefix, split));
}

absl::StatusOr<Step> ReadPunctuation(const JsonSection& section) {
  RETURN_IF_ERROR(section.OnlyOptions({"behavior"}));
  SplitBehavior behavior = SplitBehavior::kIsolated;
  if (JsonFind(section.json(), "behavior") != nullptr) {
    ASSIGN_OR_RETURN(behavior, ReadSplitBehavior(section, "behavior"));
  }
  return MakeSplitStep(SplitPattern::Characters(IsAnyPunctuation), behavior);
}

absl::StatusOr<Step> ReadSplit(const JsonSection& section) {
  RETURN_IF_ERROR(section.OnlyOptions({"pattern", "behavior", "invert"}));
  ASSIGN_OR_RETURN(std::unique_ptr<const SplitPattern> pattern, ReadPattern(section));
  ASSIGN_OR_RETURN(const SplitBehavior behavior, ReadSplitBehavior(section, "behavior"));
  ASSIGN_OR_RETURN(const bool invert, section.BoolOr("invert", false));
  return MakeSplitStep(std::move(pattern), behavior, invert);
}

absl::StatusOr<Step> Read(const JsonSection& section) {
  const std::string& type = section.type();
  if (type == "ByteLevel") return ReadByteLevel(section);
  if (type == "Metaspace") return ReadMetaspace(section);
  if (type == "Split") return ReadSplit(section);
  if (type == "Punctuation") return ReadPunctuation(section);
  if (type == "Digits") {
    RETURN_IF_ERROR(section.OnlyOptions({"individual_digits"}));
    ASSIGN_OR_RETURN(const bool individual, section.Bool("individual_digits"));
    return MakeSplitStep(SplitPattern::Characters(IsNumber),
                         individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
  }
  if (type == "Whitespace" || type == "WhitespaceSplit") {
    RETURN_IF_ERROR(section.OnlyOptions({}));
    if (type == "WhitespaceSplit") {
      return MakeSplitStep(SplitPattern::Characters(IsWhiteSpace), SplitBehavior::kRemoved);
    }
    return MakeSplitStep(SplitPattern::Scanner(MatchWordsAndSigns), SplitBehavior::kRemoved,
                         /*invert=*/true);
  }
  return section.UnsupportedType();
}

// Sequences within sequences are one.
absl::Status Flatten(const JsonSection& section, std::vector<JsonSection>* flat) {
  if (section.type() != "Sequence") {
    flat->push_back(section);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(section.OnlyOptions({"pretokenizers"}));
  ASSIGN_OR_RETURN(const std::vector<JsonSection> list, section.List("pretokenizers"));
  for (const JsonSection& one : list) RETURN_IF_ERROR(Flatten(one, flat));
  return absl::OkStatus();
}

// Whether the parts of a step, one behind the other, are what it was given.
bool KeepsText(const JsonSection& section) {
  const nlohmann::json* behavior = JsonFind(section.json(), "behavior");
  const nlohmann::json* prefix = JsonFind(section.json(), "add_prefix_space");
  const std::string& type = section.type();
  return type != "Metaspace" && type != "Whitespace" && type != "WhitespaceSplit" &&
         (behavior == nullptr || *behavior != "Removed") && (prefix == nullptr || *prefix == false);
}

}  // namespace

absl::StatusOr<PreTokenizers> PreTokenizers::Create(const nlohmann::json& json,
                                                    absl::string_view where) {
  ASSIGN_OR_RETURN(const JsonSection section, JsonSection::Create(json, where));
  std::vector<JsonSection> flat;
  RETURN_IF_ERROR(Flatten(section, &flat));
  PreTokenizers all;
  for (size_t i = 0; i < flat.size(); ++i) {
    const bool byte_level = flat[i].type() == "ByteLevel";
    if (all.byte_level_ && (byte_level || flat[i].type() == "Metaspace")) {
      return Unimplemented(flat[i].where(), " behind ByteLevel is not supported");
    }
    ASSIGN_OR_RETURN(Step step, Read(flat[i]));
    all.steps_.push_back(std::move(step));
    all.keeps_text_ = all.keeps_text_ && KeepsText(flat[i]);
    if (!byte_level) continue;
    all.byte_level_ = true;
    if (i + 1 < flat.size()) all.steps_.push_back(std::make_unique<ToAlphabetStep>());
  }
  if (all.byte_level_ && flat.back().type() != "ByteLevel") {
    all.steps_.push_back(std::make_unique<FromAlphabetStep>());
  }
  return all;
}

absl::Status PreTokenizers::SplitFrom(size_t step, const TextPart& part, OnTextPart on_word) const {
  if (step == steps_.size()) return on_word(part);
  if (step + 1 == steps_.size()) return steps_[step]->Split(part, on_word);
  return steps_[step]->Split(
      part, [&](const TextPart& next) { return SplitFrom(step + 1, next, on_word); });
}

}  // namespace featurescope

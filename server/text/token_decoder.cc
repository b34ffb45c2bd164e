#include "server/text/token_decoder.h"

#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/text/byte_alphabet.h"
#include "server/text/json_pattern.h"
#include "server/text/json_section.h"

namespace featurescope {
namespace {

constexpr int64_t kMaxStrip = 1024;

// "<0x0A>" is its byte.
std::optional<char> ByteOfToken(absl::string_view token) {
  if (token.size() != 6 || !absl::StartsWith(token, "<0x") || token[5] != '>') return std::nullopt;
  int value = 0;
  for (char c : token.substr(3, 2)) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return std::nullopt;
    const int lower = absl::ascii_tolower(static_cast<unsigned char>(c));
    value = value * 16 + (lower >= 'a' ? lower - 'a' + 10 : lower - '0');
  }
  return static_cast<char>(value);
}

}  // namespace

// A step on single tokens or, behind Fuse, on the whole text.
struct TokenDecoder::Step {
  enum class Type { kByteLevel, kMetaspace, kReplace, kByteFallback, kStrip };
  Type type;
  bool on_whole_text = false;
  std::string content;      // Metaspace: the mark; Replace: what is put in; Strip: the character
  bool drops_first = true;  // Metaspace: the first token's marks go
  int64_t start = 0;        // Strip: at most so many characters
  int64_t stop = 0;
  std::unique_ptr<const SplitPattern> pattern;  // Replace

  // `first`: the token begins the text.
  absl::Status Apply(bool first, std::string* token) const {
    switch (type) {
      case Type::kByteLevel:
        if (std::optional<std::string> bytes = FromByteAlphabet(*token)) *token = *std::move(bytes);
        break;
      case Type::kMetaspace:
        *token = absl::StrReplaceAll(*token, {{content, first && drops_first ? "" : " "}});
        break;
      case Type::kReplace:
        return pattern->ReplaceAll(*token, content, token).status();
      case Type::kByteFallback:
        if (const std::optional<char> byte = ByteOfToken(*token)) *token = std::string(1, *byte);
        break;
      case Type::kStrip:
        StripEnds(token);
        break;
    }
    return absl::OkStatus();
  }

  void StripEnds(std::string* text) const {
    absl::string_view rest = *text;
    for (int64_t i = 0; i < start && absl::ConsumePrefix(&rest, content); ++i) {
    }
    for (int64_t i = 0; i < stop && absl::ConsumeSuffix(&rest, content); ++i) {
    }
    if (rest.size() < text->size()) *text = std::string(rest);
  }
};

namespace {

// Sequences within sequences are one.
absl::Status Flatten(const JsonSection& section, std::vector<JsonSection>* flat) {
  if (section.type() != "Sequence") {
    flat->push_back(section);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(section.OnlyOptions({"decoders"}));
  ASSIGN_OR_RETURN(const std::vector<JsonSection> list, section.List("decoders"));
  for (const JsonSection& one : list) RETURN_IF_ERROR(Flatten(one, flat));
  return absl::OkStatus();
}

template <typename Step>
absl::Status ReadStep(const JsonSection& section, Step* step) {
  const std::string& type = section.type();
  if (type == "ByteLevel") {
    step->type = Step::Type::kByteLevel;
    return section.OnlyOptions({"add_prefix_space", "trim_offsets", "use_regex"});
  }
  if (type == "ByteFallback") {
    step->type = Step::Type::kByteFallback;
    return section.OnlyOptions({});
  }
  if (type == "Metaspace") {
    step->type = Step::Type::kMetaspace;
    RETURN_IF_ERROR(section.OnlyOptions(
        {"replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"}));
    ASSIGN_OR_RETURN(step->content, section.OneCharacter("replacement"));
    ASSIGN_OR_RETURN(const bool add_prefix_space, section.BoolOr("add_prefix_space", true));
    const nlohmann::json& json = section.json();
    const auto scheme = json.find("prepend_scheme");
    step->drops_first = scheme == json.end() ? add_prefix_space : *scheme != "never";
    return absl::OkStatus();
  }
  if (type == "Replace") {
    step->type = Step::Type::kReplace;
    RETURN_IF_ERROR(section.OnlyOptions({"pattern", "content"}));
    ASSIGN_OR_RETURN(step->pattern, ReadPattern(section));
    ASSIGN_OR_RETURN(step->content, section.String("content"));
    return absl::OkStatus();
  }
  if (type == "Strip") {
    step->type = Step::Type::kStrip;
    RETURN_IF_ERROR(section.OnlyOptions({"content", "start", "stop"}));
    ASSIGN_OR_RETURN(step->content, section.OneCharacter("content"));
    ASSIGN_OR_RETURN(step->start, section.Int("start", 0, kMaxStrip));
    ASSIGN_OR_RETURN(step->stop, section.Int("stop", 0, kMaxStrip));
    return absl::OkStatus();
  }
  return section.UnsupportedType();
}

}  // namespace

absl::StatusOr<TokenDecoder> TokenDecoder::Create(const nlohmann::json& json,
                                                  absl::string_view where) {
  ASSIGN_OR_RETURN(const JsonSection section, JsonSection::Create(json, where));
  std::vector<JsonSection> flat;
  RETURN_IF_ERROR(Flatten(section, &flat));
  TokenDecoder decoder;
  bool fused = false;
  for (const JsonSection& one : flat) {
    if (one.type() == "Fuse") {
      RETURN_IF_ERROR(one.OnlyOptions({}));
      fused = true;
      continue;
    }
    auto step = std::make_shared<Step>();
    RETURN_IF_ERROR(ReadStep(one, step.get()));
    step->on_whole_text = fused;
    if (fused && step->type != Step::Type::kStrip) {
      return Unimplemented(one.where(), " behind Fuse is not supported");
    }
    decoder.steps_.push_back(std::move(step));
  }
  return decoder;
}

TokenDecoder TokenDecoder::Plain(bool byte_level) {
  TokenDecoder decoder;
  if (!byte_level) return decoder;
  auto step = std::make_shared<Step>();
  step->type = Step::Type::kByteLevel;
  decoder.steps_.push_back(std::move(step));
  return decoder;
}

absl::StatusOr<std::string> TokenDecoder::Run(absl::string_view entry, bool first) const {
  std::string token(entry);
  for (const auto& step : steps_) {
    if (!step->on_whole_text) RETURN_IF_ERROR(step->Apply(first, &token));
  }
  return token;
}

absl::StatusOr<std::string> TokenDecoder::TokenBytes(absl::string_view entry) const {
  return Run(entry, false);
}
absl::StatusOr<std::string> TokenDecoder::FirstTokenBytes(absl::string_view entry) const {
  return Run(entry, true);
}

void TokenDecoder::Finish(std::string* text) const {
  for (const auto& step : steps_) {
    if (step->on_whole_text) step->StripEnds(text);
  }
}

}  // namespace featurescope

#include "server/text/post_processor.h"

#include <string>
#include <vector>

#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/text/json_section.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

// {"SpecialToken": {"id": "<s>", "type_id": 0}}; its ids are in "special_tokens".
absl::StatusOr<uint32_t> TokenOf(const JsonSection& section, const Json& part,
                                 const Vocabulary& vocabulary) {
  const Json* special = JsonFind(part, "SpecialToken");
  if (special == nullptr) {
    return Unimplemented(section.where(),
                         ": only one special token in front of the text is supported");
  }
  ASSIGN_OR_RETURN(const std::string name, JsonString(*special, "id", section.where()));
  const Json* known = JsonFind(section.json(), "special_tokens");
  const Json* entry = known == nullptr ? nullptr : JsonFind(*known, name);
  const Json* ids = entry == nullptr ? nullptr : JsonFind(*entry, "ids");
  std::optional<uint32_t> id = vocabulary.Find(name);
  if (ids != nullptr) {
    if (!ids->is_array() || ids->size() != 1) {
      return Unimplemented(section.where(), ": token ", Quoted(name), " must have one id");
    }
    const Json& first = ids->front();
    id.reset();
    if (first.is_number_unsigned() && first.get<uint64_t>() <= kMaxTokenId) {
      id = first.get<uint32_t>();
    }
  }
  if (!id || !vocabulary.Has(*id)) {
    return InvalidArgument(section.where(), ": token ", Quoted(name),
                           " is not in the vocabulary, or has another id there");
  }
  return *id;
}

absl::Status ReadTemplate(const JsonSection& section, const Vocabulary& vocabulary,
                          PostProcessor* processor) {
  RETURN_IF_ERROR(section.OnlyOptions({"single", "pair", "special_tokens"}));
  const Json* single = JsonFind(section.json(), "single");
  if (single == nullptr || !single->is_array() || single->empty() || single->size() > 2 ||
      JsonFind(single->back(), "Sequence") == nullptr || processor->has_template) {
    return Unimplemented(section.where(),
                         ": anything but one token in front of the text is not supported");
  }
  processor->has_template = true;
  if (single->size() == 2) {
    ASSIGN_OR_RETURN(processor->bos, TokenOf(section, single->front(), vocabulary));
  }
  return absl::OkStatus();
}

absl::Status Read(const JsonSection& section, const Vocabulary& vocabulary,
                  PostProcessor* processor) {
  if (section.type() == "TemplateProcessing") return ReadTemplate(section, vocabulary, processor);
  if (section.type() == "ByteLevel") {  // changes offsets only
    return section.OnlyOptions({"add_prefix_space", "trim_offsets", "use_regex"});
  }
  if (section.type() != "Sequence") return section.UnsupportedType();
  RETURN_IF_ERROR(section.OnlyOptions({"processors"}));
  ASSIGN_OR_RETURN(const std::vector<JsonSection> list, section.List("processors"));
  for (const JsonSection& one : list) RETURN_IF_ERROR(Read(one, vocabulary, processor));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PostProcessor> ReadPostProcessor(const Json& json, const Vocabulary& vocabulary,
                                                absl::string_view where) {
  ASSIGN_OR_RETURN(const JsonSection section, JsonSection::Create(json, where));
  PostProcessor processor;
  RETURN_IF_ERROR(Read(section, vocabulary, &processor));
  return processor;
}

}  // namespace featurescope

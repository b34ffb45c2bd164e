// JSON Lines: one object a line, of which one field is the document's text.
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/formats/utf8.h"
#include "server/text/document_source.h"
#include "server/text/text_pieces.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

constexpr int kMaxLineDepth = 32;
constexpr size_t kMaxNamesShown = 20;

// ": "a", "b"" for the fields of an object; nothing when it has none.
std::string FieldsOf(const Json& object) {
  std::vector<std::string> names;
  for (const auto& [name, value] : object.items()) {
    if (names.size() == kMaxNamesShown) {
      names.push_back("...");
      break;
    }
    names.push_back(absl::StrCat("\"", PrintableUtf8(name, 60), "\""));
  }
  return names.empty() ? "" : absl::StrCat("; there are ", absl::StrJoin(names, ", "));
}

std::string KindOf(const Json& value) {
  return absl::StrCat(value.is_structured() ? "an " : "a ", value.type_name());
}

class JsonLines final : public DocumentSource {
 public:
  JsonLines(CompressedFile file, const std::string& field)
      : name_(file.path()),
        field_(field),
        field_path_(absl::StrSplit(field, '.')),
        lines_(std::move(file), "\n", kMaxRecordBytes) {}

  absl::StatusOr<bool> Next(Record* record) override {
    do {
      ASSIGN_OR_RETURN(const bool more, lines_.Next(&record->bytes));
      if (!more) return false;
    } while (absl::StripAsciiWhitespace(record->bytes).empty());
    record->number = lines_.number();
    return true;
  }

  absl::StatusOr<std::string> Text(Record record) const override {
    const std::string where = Where(record);
    const bool is_first = record.number == 1;
    RETURN_IF_ERROR(CheckIsText(record.bytes, is_first, where));
    absl::string_view line = record.bytes;
    if (is_first) line = absl::StripPrefix(line, kByteOrderMark);
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) return std::string();
    if (line[0] == '[') {
      return InvalidArgument(where,
                             ": begins with '[': a JSON array; JSON Lines have one object {\"",
                             PrintableUtf8(field_), "\": \"...\"} a line");
    }
    ASSIGN_OR_RETURN(Json object, ParseJson(line, where, kMaxLineDepth));
    ASSIGN_OR_RETURN(Json * value, Find(&object, where));
    if (value->is_null()) return std::string();
    if (value->is_string()) return std::move(value->get_ref<std::string&>());
    return InvalidArgument(where, ": field \"", PrintableUtf8(field_),
                           "\" must be a string, it is ", value->is_structured() ? "an " : "a ",
                           value->type_name());
  }

  std::string Where(const Record& record) const override {
    return absl::StrCat(name_, ":", record.number);
  }

  const CompressedFile& file() const override { return lines_.file(); }

 private:
  absl::StatusOr<Json*> Find(Json* object, const std::string& where) const {
    if (!object->is_object()) {
      return InvalidArgument(where, ": expected an object, found ", KindOf(*object));
    }
    if (const auto found = object->find(field_); found != object->end()) return &*found;
    Json* value = object;
    for (const std::string& name : field_path_) {
      const auto found = value->is_object() ? value->find(name) : value->end();
      if (found == value->end()) {
        return InvalidArgument(where, ": field \"", PrintableUtf8(field_), "\" is missing",
                               FieldsOf(*object));
      }
      value = &*found;
    }
    return value;
  }

  const std::string name_;
  const std::string field_;
  const std::vector<std::string> field_path_;
  TextPieces lines_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<DocumentSource>> OpenJsonLines(CompressedFile file,
                                                              const DocumentOptions& options) {
  return std::make_shared<JsonLines>(std::move(file), options.text_field);
}

}  // namespace featurescope

#include "server/formats/json.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

// Builds the document event by event, so that depth and duplicate keys are checked before anything
// is built on them.
class DocumentBuilder final : public nlohmann::json_sax<Json> {
 public:
  explicit DocumentBuilder(int max_depth) : max_depth_(max_depth) {}

  bool null() override { return Put(nullptr); }
  bool boolean(bool value) override { return Put(value); }
  bool number_integer(number_integer_t value) override { return Put(value); }
  bool number_unsigned(number_unsigned_t value) override { return Put(value); }
  bool number_float(number_float_t value, const string_t&) override { return Put(value); }
  bool string(string_t& value) override { return Put(std::move(value)); }
  bool binary(binary_t&) override { return Fail("binary values are not allowed"); }
  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& key) override {
    const auto [place, inserted] = open_.back()->get_ref<Json::object_t&>().emplace(key, nullptr);
    if (!inserted) return Fail(absl::StrCat("the key \"", PrintableUtf8(key), "\" occurs twice"));
    slot_ = &place->second;
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    absl::string_view what = error.what();
    const size_t end_of_tag = what.find("] ");
    if (end_of_tag != absl::string_view::npos) what.remove_prefix(end_of_tag + 2);
    return Fail(PrintableUtf8(what));
  }

  const std::string& error() const { return error_; }
  Json TakeDocument() { return std::move(document_); }

 private:
  bool Fail(absl::string_view error) {
    error_ = std::string(error);
    return false;
  }

  template <typename Value>
  bool Put(Value&& value) {
    Place(Json(std::forward<Value>(value)));
    return true;
  }

  // Puts a value where the next one belongs and says where that was.
  Json* Place(Json value) {
    if (open_.empty()) {
      document_ = std::move(value);
      return &document_;
    }
    if (open_.back()->is_array()) {
      auto& array = open_.back()->get_ref<Json::array_t&>();
      array.push_back(std::move(value));
      return &array.back();
    }
    *slot_ = std::move(value);
    return slot_;
  }

  bool Open(Json container) {
    if (static_cast<int>(open_.size()) >= max_depth_) {
      return Fail(absl::StrCat("nested deeper than ", max_depth_, " levels"));
    }
    open_.push_back(Place(std::move(container)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  const int max_depth_;
  Json document_;
  std::vector<Json*> open_;  // the containers around the current place
  Json* slot_ = nullptr;     // the value of the latest key
  std::string error_;
};

absl::string_view TypeName(const Json& json) {
  if (json.is_number_integer()) return "an integer";
  if (json.is_number()) return "a number with a fraction";
  if (json.is_string()) return "a string";
  if (json.is_boolean()) return "a boolean";
  if (json.is_array()) return "an array";
  if (json.is_object()) return "an object";
  return "null";
}

absl::StatusOr<const Json*> Required(const Json& json, absl::string_view key,
                                     absl::string_view what) {
  if (!json.is_object()) {
    return InvalidArgument(what, ": expected an object, found ", TypeName(json));
  }
  const Json* value = JsonFind(json, key);
  if (value == nullptr) return InvalidArgument(what, ": field \"", key, "\" is missing");
  return value;
}

absl::Status WrongType(absl::string_view what, absl::string_view key, absl::string_view wanted,
                       const Json& value) {
  return InvalidArgument(what, ": field \"", key, "\" must be ", wanted, ", it is ",
                         TypeName(value));
}

template <typename Number>
absl::Status OutsideRange(absl::string_view what, absl::string_view key, const Json& value,
                          Number lo, Number hi) {
  return InvalidArgument(what, ": field \"", key, "\" is ", value.dump(), ", allowed is [", lo,
                         ", ", hi, "]");
}

bool IsAbsent(const Json& json, absl::string_view key) {
  return json.is_object() && JsonFind(json, key) == nullptr;
}

}  // namespace

absl::StatusOr<Json> ParseJson(absl::string_view text, absl::string_view what, int max_depth) {
  DocumentBuilder builder(max_depth);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return InvalidArgument(what, ": bad JSON: ", builder.error());
  }
  return builder.TakeDocument();
}

absl::StatusOr<Json> ReadJsonFile(const std::string& path, uint64_t max_bytes, int max_depth) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, max_bytes));
  return ParseJson(text, path, max_depth);
}

const Json* JsonFind(const Json& json, absl::string_view key) {
  if (!json.is_object()) return nullptr;
  const auto found = json.find(std::string(key));
  return found == json.end() || found->is_null() ? nullptr : &*found;
}

absl::StatusOr<int64_t> JsonInt(const Json& json, absl::string_view key, absl::string_view what,
                                int64_t lo, int64_t hi) {
  ASSIGN_OR_RETURN(const Json* value, Required(json, key, what));
  if (!value->is_number_integer()) return WrongType(what, key, "an integer", *value);
  if (value->is_number_unsigned() &&
      value->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return OutsideRange(what, key, *value, lo, hi);
  }
  const int64_t number = value->get<int64_t>();
  if (number < lo || number > hi) return OutsideRange(what, key, *value, lo, hi);
  return number;
}

absl::StatusOr<double> JsonFloat(const Json& json, absl::string_view key, absl::string_view what,
                                 double lo, double hi) {
  ASSIGN_OR_RETURN(const Json* value, Required(json, key, what));
  if (!value->is_number()) return WrongType(what, key, "a number", *value);
  const double number = value->get<double>();
  if (!(number >= lo && number <= hi)) return OutsideRange(what, key, *value, lo, hi);
  return number;
}

absl::StatusOr<bool> JsonBool(const Json& json, absl::string_view key, absl::string_view what) {
  ASSIGN_OR_RETURN(const Json* value, Required(json, key, what));
  if (!value->is_boolean()) return WrongType(what, key, "true or false", *value);
  return value->get<bool>();
}

absl::StatusOr<std::string> JsonString(const Json& json, absl::string_view key,
                                       absl::string_view what) {
  ASSIGN_OR_RETURN(const Json* value, Required(json, key, what));
  if (!value->is_string()) return WrongType(what, key, "a string", *value);
  return value->get<std::string>();
}

absl::StatusOr<int64_t> JsonIntOr(const Json& json, absl::string_view key, absl::string_view what,
                                  int64_t otherwise, int64_t lo, int64_t hi) {
  if (IsAbsent(json, key)) return otherwise;
  return JsonInt(json, key, what, lo, hi);
}

absl::StatusOr<double> JsonFloatOr(const Json& json, absl::string_view key, absl::string_view what,
                                   double otherwise, double lo, double hi) {
  if (IsAbsent(json, key)) return otherwise;
  return JsonFloat(json, key, what, lo, hi);
}

absl::StatusOr<bool> JsonBoolOr(const Json& json, absl::string_view key, absl::string_view what,
                                bool otherwise) {
  if (IsAbsent(json, key)) return otherwise;
  return JsonBool(json, key, what);
}

absl::StatusOr<std::string> JsonStringOr(const Json& json, absl::string_view key,
                                         absl::string_view what, absl::string_view otherwise) {
  if (IsAbsent(json, key)) return std::string(otherwise);
  return JsonString(json, key, what);
}

}  // namespace featurescope

#include "client/cli/output.h"

#include <google/protobuf/util/json_util.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace featurescope {

void PrintJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  // Fails only for Any fields of unknown types, and the contract's answers have none.
  (void)google::protobuf::util::MessageToJsonString(message, &json, options);
  Print(absl::StrCat(json, "\n"));
}

void Print(absl::string_view text) {
  fwrite(text.data(), 1, text.size(), stdout);
  fflush(stdout);
}

std::string TokenLabel(const v1::Token& token) {
  return absl::StrReplaceAll(token.display(), {{" ", "␣"}});
}

}  // namespace featurescope

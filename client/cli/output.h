// Printing messages of the contract, as JSON or for people.
#pragma once

#include <google/protobuf/message.h>

#include <string>

#include "absl/strings/string_view.h"
#include "featurescope/v1/catalog.pb.h"

namespace featurescope {

// One line of JSON with the proto's field names; fields at their defaults included.
void PrintJson(const google::protobuf::Message& message);

void Print(absl::string_view text);  // to standard output, as it is

// The token's text for people, e.g. "␣the" for " the".
std::string TokenLabel(const v1::Token& token);

}  // namespace featurescope

// The fields of a TrainingSpec by name: set from words of the command line, and printed.
//
// A field is known by its name in training.proto (learning_rate) and, where `train` has a flag for
// it, by the flag's (lr).
#pragma once

#include <google/protobuf/descriptor.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "featurescope/v1/training.pb.h"

namespace featurescope {

// A flag of `train` that is a field of the spec.
struct TrainingFlag {
  absl::string_view name;
  absl::string_view field;
  absl::string_view value_name;
  absl::string_view help;
  bool required = false;
};
absl::Span<const TrainingFlag> TrainingFlags();

using SpecField = google::protobuf::FieldDescriptor;

//   errors  InvalidArgument  no such field, with near ones
absl::StatusOr<const SpecField*> FindSpecField(absl::string_view name);

// Parses "FIELD=VALUE" or "FIELD=V1,V2,..." up to the sign.
//   errors  InvalidArgument  no '=', no value, no such field
struct FieldWords {
  const SpecField* field;
  std::string name;   // as it was written
  std::string words;  // what stands behind the sign
};
absl::StatusOr<FieldWords> ParseField(absl::string_view text, absl::string_view flag);

// Sets a number, a choice, a switch or a list of numbers (1,2,3); whole numbers may be written as
// 1e6, switches are true or false, dtypes may be called bf16 and fp32.
//
//   label   what the user called it, for messages
//   errors  InvalidArgument  the value is not of the field's type; the field is set already; fields
//                            of several parts, naming the flag that sets them
absl::Status SetSpecField(const SpecField& field, absl::string_view label, absl::string_view value,
                          v1::TrainingSpec* spec);

// "bfloat16" for bf16 and so on; other words stay as they are.
std::string DtypeName(absl::string_view word);

// The fields that are set, as (name, value), in the order of the contract.
std::vector<std::pair<std::string, std::string>> SetFields(const v1::TrainingSpec& spec);

// The short name of a field: its flag's, else its own.
std::string ShortName(const SpecField& field);

}  // namespace featurescope

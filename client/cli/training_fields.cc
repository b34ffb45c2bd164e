#include "client/cli/training_fields.h"

#include <google/protobuf/message.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "client/cli/near_names.h"
#include "client/cli/terminal.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr TrainingFlag kFlags[] = {
    {"id", "sae_id", "NEW", "the new SAE's id; of a sweep, what its SAEs' ids begin with", true},
    {"model", "model_id", "ID", "the model"},
    {"corpus", "corpus_id", "ID", "the corpus"},
    {"hook", "hook_name", "NAME", "the hook point, e.g. blocks.3.hook_resid_post"},
    {"hook-out", "hook_name_out", "NAME", "transcoders: the hook point that is reconstructed"},
    {"preset", "preset", "NAME", "a published recipe (see preset list); other flags change it"},
    {"architecture", "architecture", "NAME", "topk (default), batchtopk, standard, jumprelu, ..."},
    {"d-sae", "d_sae", "N", "number of features"},
    {"expansion", "expansion", "X", "features per input width, instead of --d-sae"},
    {"tokens", "tokens", "N", "tokens to train on, e.g. 5e7"},
    {"epochs", "epochs", "X", "passes over the corpus, instead of --tokens"},
    {"k", "k", "K", "topk family: active features per token"},
    {"l1", "l1_coefficient", "X", "standard, gated: weight of the L1 penalty (default: 5)"},
    {"lr", "learning_rate", "X", "learning rate (default: by architecture)"},
    {"batch-size", "batch_size", "N", "tokens per step (default: 4096)"},
    {"buffer-tokens", "buffer_tokens", "N", "activations held for shuffling (default: 64 batches)"},
    {"warmup-steps", "lr_warmup_steps", "N", "linear rise of the learning rate"},
    {"decay-steps", "lr_decay_steps", "N", "linear fall at the end"},
    {"auxk", "auxk_coefficient", "X",
     "topk family: weight of the dead features' loss (default: 1/32)"},
    {"dead-after-tokens", "dead_after_tokens", "N", "when a feature counts as dead"},
    {"clip-norm", "clip_norm", "X", "clip the gradient's norm (default: 1; 0: not)"},
    {"dtype", "compute_dtype", "NAME", "of the encoder's product: fp32 (default) or bf16"},
    {"seed", "seed", "N", "the same seed gives the same result"},
};

using google::protobuf::Reflection;

const google::protobuf::Descriptor& Descriptor() { return *v1::TrainingSpec::descriptor(); }

// What a value of the field looks like, for messages.
std::string TypeWords(const SpecField& field) {
  switch (field.cpp_type()) {
    case SpecField::CPPTYPE_BOOL:
      return "true or false";
    case SpecField::CPPTYPE_DOUBLE:
      return "a number";
    case SpecField::CPPTYPE_UINT32:
      return absl::StrCat("a whole number from 0 to ", std::numeric_limits<uint32_t>::max());
    case SpecField::CPPTYPE_UINT64:
      return "a whole number, 0 or more";
    case SpecField::CPPTYPE_INT32:
    case SpecField::CPPTYPE_INT64:
      return "a whole number";
    default:
      return "a word";
  }
}

// "5000000" and "5e6"; the latter must be exact.
template <typename T>
bool ParseWhole(absl::string_view text, T* value) {
  if (absl::SimpleAtoi(text, value)) return true;
  double number = 0;
  if (!absl::SimpleAtod(text, &number) || number != std::floor(number)) return false;
  constexpr double kExact = 9007199254740992.0;  // 2^53
  const double most = std::min(kExact, static_cast<double>(std::numeric_limits<T>::max()));
  if (number < static_cast<double>(std::numeric_limits<T>::min()) || number > most) return false;
  *value = static_cast<T>(number);
  return true;
}

bool ParseSwitch(absl::string_view text, bool* value) {
  *value = text == "true" || text == "yes" || text == "1";
  return *value || text == "false" || text == "no" || text == "0";
}

// Adds to a list, or sets; false where the word is not of the field's type.
bool StoreWord(const SpecField& field, absl::string_view word, v1::TrainingSpec* spec) {
  const Reflection& reflection = *spec->GetReflection();
  const auto number = [&](auto value, auto set, auto add) {
    if (!ParseWhole(word, &value)) return false;
    if (field.is_repeated()) {
      (reflection.*add)(spec, &field, value);
    } else {
      (reflection.*set)(spec, &field, value);
    }
    return true;
  };
  switch (field.cpp_type()) {
    case SpecField::CPPTYPE_UINT32:
      return number(uint32_t{0}, &Reflection::SetUInt32, &Reflection::AddUInt32);
    case SpecField::CPPTYPE_UINT64:
      return number(uint64_t{0}, &Reflection::SetUInt64, &Reflection::AddUInt64);
    case SpecField::CPPTYPE_INT32:
      return number(int32_t{0}, &Reflection::SetInt32, &Reflection::AddInt32);
    case SpecField::CPPTYPE_INT64:
      return number(int64_t{0}, &Reflection::SetInt64, &Reflection::AddInt64);
    case SpecField::CPPTYPE_DOUBLE: {
      double value = 0;
      if (!absl::SimpleAtod(word, &value) || !std::isfinite(value)) return false;
      if (field.is_repeated()) {
        reflection.AddDouble(spec, &field, value);
      } else {
        reflection.SetDouble(spec, &field, value);
      }
      return true;
    }
    case SpecField::CPPTYPE_BOOL: {
      bool value = false;
      if (!ParseSwitch(word, &value)) return false;
      reflection.SetBool(spec, &field, value);
      return true;
    }
    case SpecField::CPPTYPE_STRING:
      reflection.SetString(spec, &field,
                           field.name() == "compute_dtype" ? DtypeName(word) : std::string(word));
      return !word.empty();
    default:
      return false;
  }
}

bool IsSet(const SpecField& field, const v1::TrainingSpec& spec) {
  const Reflection& reflection = *spec.GetReflection();
  return field.is_repeated() ? reflection.FieldSize(spec, &field) > 0
                             : reflection.HasField(spec, &field);
}

std::string MessageText(const google::protobuf::Message& message) {
  if (const auto* share = dynamic_cast<const v1::CorpusShare*>(&message)) {
    return share->weight() > 0 ? absl::StrCat(share->corpus_id(), ":", share->weight())
                               : share->corpus_id();
  }
  const auto& files = dynamic_cast<const v1::ActivationFiles&>(message);
  if (!files.cache_id().empty()) return absl::StrCat("cache ", files.cache_id());
  std::vector<std::string> channels;
  for (const v1::RawActivations& channel : files.channels()) {
    channels.push_back(absl::StrCat(absl::StrJoin(channel.paths(), ", "), " (",
                                    channel.dtype().empty() ? "float16" : channel.dtype().c_str(),
                                    ")"));
  }
  return absl::StrJoin(channels, " -> ");
}

// The value of a field that is no list, or the i-th of a list.
std::string ValueText(const v1::TrainingSpec& spec, const SpecField& field, int i) {
  const Reflection& reflection = *spec.GetReflection();
  const bool list = field.is_repeated();
  switch (field.cpp_type()) {
    case SpecField::CPPTYPE_UINT32:
      return absl::StrCat(list ? reflection.GetRepeatedUInt32(spec, &field, i)
                               : reflection.GetUInt32(spec, &field));
    case SpecField::CPPTYPE_UINT64:
      return absl::StrCat(list ? reflection.GetRepeatedUInt64(spec, &field, i)
                               : reflection.GetUInt64(spec, &field));
    case SpecField::CPPTYPE_INT32:
      return absl::StrCat(list ? reflection.GetRepeatedInt32(spec, &field, i)
                               : reflection.GetInt32(spec, &field));
    case SpecField::CPPTYPE_INT64:
      return absl::StrCat(list ? reflection.GetRepeatedInt64(spec, &field, i)
                               : reflection.GetInt64(spec, &field));
    case SpecField::CPPTYPE_DOUBLE:
      return FormatNumber(
          list ? reflection.GetRepeatedDouble(spec, &field, i) : reflection.GetDouble(spec, &field),
          6);
    case SpecField::CPPTYPE_BOOL:
      return reflection.GetBool(spec, &field) ? "true" : "false";
    case SpecField::CPPTYPE_MESSAGE:
      return MessageText(list ? reflection.GetRepeatedMessage(spec, &field, i)
                              : reflection.GetMessage(spec, &field));
    default:
      return reflection.GetString(spec, &field);
  }
}

std::string FieldText(const v1::TrainingSpec& spec, const SpecField& field) {
  if (!field.is_repeated()) return ValueText(spec, field, 0);
  std::vector<std::string> values;
  for (int i = 0; i < spec.GetReflection()->FieldSize(spec, &field); ++i) {
    values.push_back(ValueText(spec, field, i));
  }
  return absl::StrJoin(values, ",");
}

}  // namespace

absl::Span<const TrainingFlag> TrainingFlags() { return kFlags; }

std::string DtypeName(absl::string_view word) {
  const std::string lower = absl::AsciiStrToLower(word);
  if (lower == "bf16") return "bfloat16";
  if (lower == "fp16" || lower == "f16" || lower == "half") return "float16";
  if (lower == "fp32" || lower == "f32" || lower == "float") return "float32";
  return lower;
}

absl::StatusOr<const SpecField*> FindSpecField(absl::string_view name) {
  for (const TrainingFlag& flag : kFlags) {
    if (flag.name == name) return Descriptor().FindFieldByName(std::string(flag.field));
  }
  const SpecField* field = Descriptor().FindFieldByName(absl::StrReplaceAll(name, {{"-", "_"}}));
  if (field != nullptr) return field;
  std::vector<std::string> names;
  for (int i = 0; i < Descriptor().field_count(); ++i) {
    names.push_back(Descriptor().field(i)->name());
  }
  const std::vector<std::string> near = NearNames(absl::StrReplaceAll(name, {{"-", "_"}}), names);
  return InvalidArgument(
      "a training has no field \"", name, "\"; ",
      near.empty() ? "there are: " : "near it: ", absl::StrJoin(near.empty() ? names : near, ", "));
}

absl::StatusOr<FieldWords> ParseField(absl::string_view text, absl::string_view flag) {
  const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits('=', 1));
  if (parts.size() != 2 || parts[0].empty() || parts[1].empty()) {
    return InvalidArgument("--", flag, " takes FIELD=VALUE, not \"", text, "\"");
  }
  ASSIGN_OR_RETURN(const SpecField* const field, FindSpecField(parts[0]));
  return FieldWords{field, parts[0], parts[1]};
}

absl::Status SetSpecField(const SpecField& field, absl::string_view label, absl::string_view value,
                          v1::TrainingSpec* spec) {
  if (field.cpp_type() == SpecField::CPPTYPE_MESSAGE) {
    return InvalidArgument(
        label, " has several parts; ",
        field.name() == "more_corpora" ? "--mix CORPUS[:WEIGHT]" : "--activations CACHE|FILE",
        " sets it");
  }
  if (IsSet(field, *spec)) {
    return InvalidArgument(label, " sets ", field.name(), ", which is set already");
  }
  const bool list = field.is_repeated();
  const std::vector<std::string> words =
      list ? absl::StrSplit(value, ',') : std::vector<std::string>{std::string(value)};
  for (const std::string& word : words) {
    if (!StoreWord(field, word, spec)) {
      return InvalidArgument(label, " must be ", TypeWords(field),
                             list ? ", or several: 1,2,3" : "", "; it is \"", value, "\"");
    }
  }
  return absl::OkStatus();
}

std::vector<std::pair<std::string, std::string>> SetFields(const v1::TrainingSpec& spec) {
  std::vector<std::pair<std::string, std::string>> fields;
  for (int i = 0; i < Descriptor().field_count(); ++i) {
    const SpecField& field = *Descriptor().field(i);
    if (IsSet(field, spec)) fields.emplace_back(field.name(), FieldText(spec, field));
  }
  return fields;
}

std::string ShortName(const SpecField& field) {
  for (const TrainingFlag& flag : kFlags) {
    if (flag.field == field.name()) return std::string(flag.name);
  }
  return field.name();
}

}  // namespace featurescope

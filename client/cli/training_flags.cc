#include "client/cli/training_flags.h"

#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/commands.h"
#include "client/cli/training_fields.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr size_t kMaxMembers = 256;

// --mix CORPUS[:WEIGHT]. The first corpus is --corpus, or the first of the mixture.
absl::Status SetMixture(const Args& args, v1::TrainingSpec* spec) {
  std::set<std::string> seen;
  for (const std::string& text : args.All("mix")) {
    const std::vector<std::string> parts = absl::StrSplit(text, ':');
    double weight = 0;
    if (parts.size() > 2 || parts[0].empty() ||
        (parts.size() == 2 && (!absl::SimpleAtod(parts[1], &weight) || !(weight > 0)))) {
      return InvalidArgument("--mix takes CORPUS[:WEIGHT] with a weight over 0, not \"", text,
                             "\"");
    }
    if (!seen.insert(parts[0]).second) {
      return InvalidArgument("--mix names the corpus ", parts[0], " twice");
    }
    if (spec->corpus_id().empty()) spec->set_corpus_id(parts[0]);
    if (parts[0] == spec->corpus_id()) {
      if (weight > 0) spec->set_corpus_weight(weight);
      continue;
    }
    v1::CorpusShare& share = *spec->add_more_corpora();
    share.set_corpus_id(parts[0]);
    share.set_weight(weight);
  }
  return absl::OkStatus();
}

bool IsPath(const std::string& word) { return absl::StrContains(word, '/'); }

// --activations CACHE, or --activations FILE... [--target-activations FILE...].
absl::Status SetActivations(const Args& args, v1::TrainingSpec* spec) {
  const std::vector<std::string>& inputs = args.All("activations");
  const std::vector<std::string>& targets = args.All("target-activations");
  const bool raw = !inputs.empty() && IsPath(inputs[0]);
  for (const char* flag : {"target-activations", "activations-dtype", "activations-width"}) {
    if (args.Has(flag) && !raw) return InvalidArgument("--", flag, " needs --activations FILE");
  }
  if (inputs.empty()) return absl::OkStatus();
  v1::ActivationFiles& activations = *spec->mutable_activations();
  if (!raw) {
    if (inputs.size() > 1) {
      return InvalidArgument("--activations takes one cache, or files (./NAME for a file here)");
    }
    activations.set_cache_id(inputs[0]);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const uint64_t width, args.Integer("activations-width", 0));
  for (const auto* paths : {&inputs, &targets}) {
    if (paths->empty()) continue;
    v1::RawActivations& channel = *activations.add_channels();
    for (const std::string& path : *paths) channel.add_paths(AbsolutePath(path));
    if (args.Has("activations-dtype")) channel.set_dtype(DtypeName(args.Get("activations-dtype")));
    channel.set_width(static_cast<uint32_t>(width));
  }
  return absl::OkStatus();
}

// What a swept value adds to a member's id: only letters that ids may have.
std::string IdPart(const FieldWords& swept, absl::string_view value) {
  std::string part = "-";
  if (swept.field->cpp_type() != SpecField::CPPTYPE_STRING) {
    absl::StrAppend(&part, ShortName(*swept.field));
    // "l15" could be l1 = 5 or l = 15.
    if (absl::ascii_isdigit(static_cast<unsigned char>(part.back()))) absl::StrAppend(&part, "_");
  }
  for (const char letter : absl::AsciiStrToLower(value)) {
    const bool fine = absl::ascii_isalnum(static_cast<unsigned char>(letter)) || letter == '.' ||
                      letter == '_' || letter == '-';
    part.push_back(fine ? letter : '-');
  }
  return part;
}

// Each member so far once for each value of the swept field.
absl::StatusOr<std::vector<v1::TrainingSpec>> Multiply(const std::vector<v1::TrainingSpec>& members,
                                                       const FieldWords& swept) {
  const std::vector<std::string> values = absl::StrSplit(swept.words, ',');
  if (members.size() * values.size() > kMaxMembers) {
    return InvalidArgument("--sweep makes more than ", kMaxMembers, " SAEs");
  }
  std::vector<v1::TrainingSpec> product;
  for (const v1::TrainingSpec& member : members) {
    for (const std::string& value : values) {
      v1::TrainingSpec next = member;
      RETURN_IF_ERROR(
          SetSpecField(*swept.field, absl::StrCat("--sweep ", swept.name), value, &next));
      next.set_sae_id(absl::StrCat(member.sae_id(), IdPart(swept, value)));
      product.push_back(std::move(next));
    }
  }
  return product;
}

absl::Status SetMembers(const Args& args, v1::SweepSpec* sweep) {
  if (!args.Has("sweep")) return absl::OkStatus();
  std::vector<v1::TrainingSpec> members(1);
  members[0].set_sae_id(sweep->base().sae_id());
  v1::TrainingSpec set = sweep->base();
  for (const std::string& text : args.All("sweep")) {
    ASSIGN_OR_RETURN(const FieldWords swept, ParseField(text, "sweep"));
    if (swept.field->is_repeated()) {
      return InvalidArgument("--sweep ", swept.name, ": a list cannot be swept");
    }
    const std::string first = swept.words.substr(0, swept.words.find(','));
    RETURN_IF_ERROR(SetSpecField(*swept.field, absl::StrCat("--sweep ", swept.name), first, &set));
    ASSIGN_OR_RETURN(members, Multiply(members, swept));
  }
  std::set<std::string> ids;
  for (v1::TrainingSpec& member : members) {
    if (!ids.insert(member.sae_id()).second) {
      return InvalidArgument("--sweep has a value twice: two SAEs would be ", member.sae_id());
    }
    *sweep->add_members() = std::move(member);
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<Flag> TrainingSpecFlags() {
  std::vector<Flag> flags;
  for (const TrainingFlag& flag : TrainingFlags()) {
    flags.push_back({std::string(flag.name), std::string(flag.value_name), std::string(flag.help),
                     flag.required});
  }
  const auto repeated = [&](const char* name, const char* value_name, const char* help) {
    flags.push_back({name, value_name, help, false, true});
  };
  repeated("set", "FIELD=VALUE", "any other field of TrainingSpec (see training.proto)");
  repeated("sweep", "FIELD=V1,V2,...",
           "trains an SAE for each value on one stream; several make a grid");
  repeated("mix", "CORPUS[:WEIGHT]", "a further corpus; --corpus is given a weight by naming it");
  repeated("activations", "CACHE|FILE",
           "train on a cache's or raw files' activations (a file has a /, e.g. ./acts.bin)");
  repeated("target-activations", "FILE", "transcoders: raw files of the targets");
  flags.push_back({"activations-dtype", "NAME", "of raw files: fp16 (default), bf16 or fp32"});
  flags.push_back({"activations-width", "N", "of raw files (default: the hook point's)"});
  return flags;
}

absl::StatusOr<v1::SweepSpec> TrainingFromFlags(const Args& args) {
  v1::SweepSpec sweep;
  v1::TrainingSpec& base = *sweep.mutable_base();
  for (const TrainingFlag& flag : TrainingFlags()) {
    if (!args.Has(flag.name)) continue;
    ASSIGN_OR_RETURN(const SpecField* const field, FindSpecField(flag.name));
    RETURN_IF_ERROR(
        SetSpecField(*field, absl::StrCat("--", flag.name), args.Get(flag.name), &base));
  }
  for (const std::string& text : args.All("set")) {
    ASSIGN_OR_RETURN(const FieldWords set, ParseField(text, "set"));
    RETURN_IF_ERROR(SetSpecField(*set.field, absl::StrCat("--set ", set.name), set.words, &base));
  }
  RETURN_IF_ERROR(SetMixture(args, &base));
  RETURN_IF_ERROR(SetActivations(args, &base));
  RETURN_IF_ERROR(SetMembers(args, &sweep));
  return sweep;
}

}  // namespace featurescope

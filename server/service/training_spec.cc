#include "server/service/training_spec.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/train/spec_fields.h"

namespace featurescope {
namespace {

using google::protobuf::FieldDescriptor;

// Two ways to say one thing: who gives one of them does not want the other from below.
constexpr const char* kAlternatives[][2] = {
    {"d_sae", "expansion"},
    {"tokens", "epochs"},
    {"lr_warmup_steps", "lr_warmup_fraction"},
    {"lr_decay_steps", "lr_decay_fraction"},
    {"l1_warmup_steps", "l1_warmup_fraction"},
    {"scale_inputs", "input_scaling"},
};

const FieldDescriptor* FindField(const std::string& name) {
  return v1::TrainingSpec::descriptor()->FindFieldByName(name);
}

bool IsGiven(const v1::TrainingSpec& spec, const FieldDescriptor* field) {
  if (field->is_repeated()) return spec.GetReflection()->FieldSize(spec, field) > 0;
  return spec.GetReflection()->HasField(spec, field);
}

// Whether it is given, and not as the zero that means none.
bool IsWanted(const v1::TrainingSpec& spec, const char* name) {
  const FieldDescriptor* field = FindField(name);
  if (!IsGiven(spec, field)) return false;
  const bool none_at_zero = field->name() == "expansion" || field->name() == "epochs";
  return !none_at_zero || spec.GetReflection()->GetDouble(spec, field) != 0;
}

// `over`, and where it says nothing `base`.
v1::TrainingSpec Merged(v1::TrainingSpec base, const v1::TrainingSpec& over) {
  for (const auto& [a, b] : kAlternatives) {
    const bool has_a = IsWanted(over, a);
    const bool has_b = IsWanted(over, b);
    if (has_a && !has_b) base.GetReflection()->ClearField(&base, FindField(b));
    if (has_b && !has_a) base.GetReflection()->ClearField(&base, FindField(a));
  }
  // Lists are replaced, not continued.
  const auto* descriptor = v1::TrainingSpec::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    const bool list = field->is_repeated() || field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (list && IsGiven(over, field)) base.GetReflection()->ClearField(&base, field);
  }
  base.MergeFrom(over);
  return base;
}

// Takes over every field that is given.
class SpecReader {
 public:
  explicit SpecReader(const v1::TrainingSpec& spec) : spec_(spec) {}

  template <typename T>
  void operator()(const char* name, T& value) {
    if (!status_.ok()) return;
    const FieldDescriptor* field = FindField(name);
    if (field == nullptr) {
      status_ = Internal("the contract has no field ", name);
    } else if (IsGiven(spec_, field)) {
      status_ = Read(field, &value);
    }
  }
  const absl::Status& status() const { return status_; }

 private:
  template <typename T>
  absl::Status Read(const FieldDescriptor* field, T* value) const {
    const auto& reflection = *spec_.GetReflection();
    if constexpr (std::is_same_v<T, std::string>) {
      *value = reflection.GetString(spec_, field);
      return absl::OkStatus();
    } else if constexpr (std::is_same_v<T, bool>) {
      *value = reflection.GetBool(spec_, field);
      return absl::OkStatus();
    } else if constexpr (std::is_enum_v<T>) {
      return ReadChoice(field, reflection.GetString(spec_, field), value);
    } else {
      return ReadNumber(field, -1, value);
    }
  }
  template <typename T>
  absl::Status Read(const FieldDescriptor* field, std::optional<T>* value) const {
    return Read(field, &value->emplace());
  }
  template <typename T>
  absl::Status Read(const FieldDescriptor* field, std::vector<T>* values) const {
    values->clear();
    for (int i = 0; i < spec_.GetReflection()->FieldSize(spec_, field); ++i) {
      RETURN_IF_ERROR(ReadNumber(field, i, &values->emplace_back()));
    }
    return absl::OkStatus();
  }

  template <typename E>
  static absl::Status ReadChoice(const FieldDescriptor* field, const std::string& name, E* value) {
    const std::optional<E> found = FindEnum<E>(name);
    if (found) {
      *value = *found;
      return absl::OkStatus();
    }
    const std::vector<std::string> names(std::begin(EnumNames<E>::kNames),
                                         std::end(EnumNames<E>::kNames));
    return InvalidField(field->name(), field->name(), " is \"", name, "\", it may be ",
                        absl::StrJoin(names, ", "));
  }

  // Element `i` of a list, or -1: the only one.
  template <typename T>
  absl::Status ReadNumber(const FieldDescriptor* field, int i, T* value) const {
    const auto& reflection = *spec_.GetReflection();
#define READ_AS(TYPE, NAME)                                               \
  case FieldDescriptor::CPPTYPE_##TYPE:                                   \
    return Convert(field,                                                 \
                   i < 0 ? reflection.Get##NAME(spec_, field)             \
                         : reflection.GetRepeated##NAME(spec_, field, i), \
                   value)
    switch (field->cpp_type()) {
      READ_AS(INT32, Int32);
      READ_AS(INT64, Int64);
      READ_AS(UINT32, UInt32);
      READ_AS(UINT64, UInt64);
      READ_AS(DOUBLE, Double);
      default:
        return Internal("field ", field->name(), " of the contract is no number");
    }
#undef READ_AS
  }
  template <typename From, typename To>
  static absl::Status Convert(const FieldDescriptor* field, From from, To* to) {
    if constexpr (std::is_floating_point_v<From> != std::is_floating_point_v<To>) {
      return Internal("field ", field->name(), " of the contract has another type");
    } else if constexpr (std::is_floating_point_v<From>) {
      if (!std::isfinite(from)) {
        return InvalidField(field->name(), field->name(), " is ", from, ", not a finite number");
      }
      *to = from;
    } else {
      if (!std::in_range<To>(from)) {
        return InvalidField(field->name(), field->name(), " is ", from, ", out of range [",
                            std::numeric_limits<To>::min(), ", ", std::numeric_limits<To>::max(),
                            "]");
      }
      *to = static_cast<To>(from);
    }
    return absl::OkStatus();
  }

  const v1::TrainingSpec& spec_;
  absl::Status status_;
};

// Sets every field; an unset optional stays unset.
class SpecWriter {
 public:
  explicit SpecWriter(v1::TrainingSpec* out) : out_(out), reflection_(*out->GetReflection()) {}

  template <typename T>
  void operator()(const char* name, const T& value) {
    const FieldDescriptor* field = FindField(name);
    if constexpr (std::is_same_v<T, std::string>) {
      reflection_.SetString(out_, field, value);
    } else if constexpr (std::is_same_v<T, bool>) {
      reflection_.SetBool(out_, field, value);
    } else if constexpr (std::is_enum_v<T>) {
      reflection_.SetString(out_, field, std::string(EnumName(value)));
    } else {
      SetNumber(field, value);
    }
  }
  template <typename T>
  void operator()(const char* name, const std::optional<T>& value) {
    if (value) (*this)(name, *value);
  }
  void operator()(const char* name, const std::vector<int64_t>& values) {
    for (const int64_t value : values) reflection_.AddInt64(out_, FindField(name), value);
  }
  void operator()(const char* name, const std::vector<double>& values) {
    for (const double value : values) reflection_.AddDouble(out_, FindField(name), value);
  }

 private:
  template <typename T>
  void SetNumber(const FieldDescriptor* field, T value) {
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        return reflection_.SetInt32(out_, field, Nearest<int32_t>(value));
      case FieldDescriptor::CPPTYPE_INT64:
        return reflection_.SetInt64(out_, field, Nearest<int64_t>(value));
      case FieldDescriptor::CPPTYPE_UINT32:
        return reflection_.SetUInt32(out_, field, Nearest<uint32_t>(value));
      case FieldDescriptor::CPPTYPE_UINT64:
        return reflection_.SetUInt64(out_, field, Nearest<uint64_t>(value));
      default:
        return reflection_.SetDouble(out_, field, static_cast<double>(value));
    }
  }
  // A resolved number of steps may be larger than the contract's type.
  template <typename To, typename From>
  static To Nearest(From from) {
    if constexpr (std::is_floating_point_v<From>) {
      return static_cast<To>(from);
    } else {
      if (std::in_range<To>(from)) return static_cast<To>(from);
      return from < 0 ? std::numeric_limits<To>::min() : std::numeric_limits<To>::max();
    }
  }

  v1::TrainingSpec* const out_;
  const google::protobuf::Reflection& reflection_;
};

void WriteSettings(const TrainingSpec& spec, v1::TrainingSpec* out) {
  SpecWriter writer(out);
  VisitTrainingSpec(spec, writer);
}

absl::StatusOr<double> Weight(const char* field, double weight) {
  if (!std::isfinite(weight)) {
    return InvalidField(field, field, " is ", weight, ", not a finite number");
  }
  return weight == 0 ? 1 : weight;
}

// What is not the recipe: ids, corpora, files.
absl::Status ReadInputs(const v1::TrainingSpec& spec, TrainingJob* job) {
  job->sae_id = spec.sae_id();
  job->model_id = spec.model_id();
  job->corpus_id = spec.corpus_id();
  job->hook_name = spec.hook_name();
  job->hook_name_out = spec.hook_name_out();
  job->preset = spec.preset();
  ASSIGN_OR_RETURN(job->corpus_weight, Weight("corpus_weight", spec.corpus_weight()));
  for (const v1::CorpusShare& share : spec.more_corpora()) {
    MixedCorpus& corpus = job->more_corpora.emplace_back();
    corpus.corpus_id = share.corpus_id();
    ASSIGN_OR_RETURN(corpus.weight, Weight("weight", share.weight()));
  }
  job->activation_cache = spec.activations().cache_id();
  for (const v1::RawActivations& raw : spec.activations().channels()) {
    RawChannel& channel = job->activation_files.emplace_back();
    channel.paths.assign(raw.paths().begin(), raw.paths().end());
    channel.dtype = raw.dtype();
    channel.width = raw.width();
  }
  return absl::OkStatus();
}

void WriteInputs(const TrainingJob& job, v1::TrainingSpec* out) {
  out->set_sae_id(job.sae_id);
  out->set_model_id(job.model_id);
  out->set_corpus_id(job.corpus_id);
  out->set_hook_name(job.hook_name);
  out->set_hook_name_out(job.hook_name_out);
  out->set_preset(job.preset);
  out->set_corpus_weight(job.corpus_weight);
  for (const MixedCorpus& corpus : job.more_corpora) {
    v1::CorpusShare* share = out->add_more_corpora();
    share->set_corpus_id(corpus.corpus_id);
    share->set_weight(corpus.weight);
  }
  if (!job.from_files()) return;
  v1::ActivationFiles* files = out->mutable_activations();
  files->set_cache_id(job.activation_cache);
  for (const RawChannel& channel : job.activation_files) {
    v1::RawActivations* raw = files->add_channels();
    for (const std::string& path : channel.paths) raw->add_paths(path);
    raw->set_dtype(channel.dtype);
    raw->set_width(static_cast<uint32_t>(channel.width));
  }
}

// The fields, other than sae_id, of which not all specs have the same.
std::set<const FieldDescriptor*> DifferingFields(std::vector<v1::TrainingSpec> specs) {
  std::set<const FieldDescriptor*> differing;
  const auto* descriptor = v1::TrainingSpec::descriptor();
  const auto& reflection = *v1::TrainingSpec::GetReflection();
  // The only field of a spec with anything in it is moved to an empty one, and back.
  const auto text_of = [&](v1::TrainingSpec& spec, const FieldDescriptor* field) {
    v1::TrainingSpec only;
    reflection.SwapFields(&spec, &only, {field});
    return only.SerializeAsString();
  };
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    const std::string first = text_of(specs[0], field);
    for (size_t j = 1; j < specs.size(); ++j) {
      if (text_of(specs[j], field) != first) differing.insert(field);
    }
  }
  differing.erase(FindField("sae_id"));
  return differing;
}

void KeepFields(const std::set<const FieldDescriptor*>& fields, bool inside,
                v1::TrainingSpec* spec) {
  const auto* descriptor = v1::TrainingSpec::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    if (fields.contains(field) != inside) spec->GetReflection()->ClearField(spec, field);
  }
}

}  // namespace

absl::StatusOr<TrainingJob> FromProto(const v1::TrainingSpec& spec) {
  v1::TrainingSpec full = spec;
  if (!spec.preset().empty()) {
    ASSIGN_OR_RETURN(const TrainingSpec preset, PresetSpec(spec.preset()));
    v1::TrainingSpec base;
    WriteSettings(preset, &base);
    full = Merged(std::move(base), spec);
  }
  TrainingJob job;
  RETURN_IF_ERROR(ReadInputs(full, &job));
  SpecReader reader(full);
  VisitTrainingSpec(job.training, reader);
  RETURN_IF_ERROR(reader.status());
  return job;
}

void ToProto(const TrainingJob& job, v1::TrainingSpec* out) {
  WriteInputs(job, out);
  WriteSettings(job.training, out);
}

absl::StatusOr<SweepJob> FromProto(const v1::SweepSpec& spec) {
  SweepJob job;
  if (spec.members().empty()) {
    ASSIGN_OR_RETURN(job.members.emplace_back(), FromProto(spec.base()));
    return job;
  }
  if (static_cast<size_t>(spec.members_size()) > kMaxSweepMembers) {
    return InvalidField("members", "there are ", spec.members_size(), " members, 1 to ",
                        kMaxSweepMembers, " are possible");
  }
  v1::TrainingSpec base = spec.base();
  base.clear_sae_id();
  for (const v1::TrainingSpec& member : spec.members()) {
    absl::StatusOr<TrainingJob> merged = FromProto(Merged(base, member));
    if (!merged.ok()) return Annotate(merged.status(), member.sae_id());
    job.members.push_back(*std::move(merged));
  }
  return job;
}

void ToProto(const SweepJob& job, v1::SweepSpec* out) {
  std::vector<v1::TrainingSpec> members(job.members.size());
  for (size_t i = 0; i < members.size(); ++i) ToProto(job.members[i], &members[i]);
  if (members.empty()) return;
  std::set<const FieldDescriptor*> own = DifferingFields(members);
  for (const auto& [a, b] : kAlternatives) {
    if (!own.contains(FindField(a)) && !own.contains(FindField(b))) continue;
    own.insert({FindField(a), FindField(b)});
  }
  own.insert(FindField("sae_id"));
  *out->mutable_base() = members[0];
  KeepFields(own, /*inside=*/false, out->mutable_base());
  for (v1::TrainingSpec& member : members) {
    KeepFields(own, /*inside=*/true, &member);
    *out->add_members() = std::move(member);
  }
}

void ToProto(const Preset& preset, v1::Preset* out) {
  const auto text = [](absl::string_view view) { return std::string(view); };
  out->set_name(text(preset.name));
  out->set_title(text(preset.title));
  out->set_source(text(preset.source));
  out->set_model(text(preset.model));
  out->set_hook_name(text(preset.hook));
  out->set_open(text(preset.open));
  out->set_differs(text(preset.differs));
  TrainingSpec spec;
  v1::TrainingSpec defaults;
  WriteSettings(spec, &defaults);
  preset.apply(spec);
  WriteSettings(spec, out->mutable_spec());
  KeepFields(DifferingFields({defaults, out->spec()}), /*inside=*/true, out->mutable_spec());
}

void ToProto(const TrainingPlan& plan, v1::TrainingPlan* out) {
  for (const TrainingJob& job : plan.resolved) ToProto(job, out->add_resolved());
  out->set_steps(plan.steps);
  out->set_memory_bytes(plan.memory_bytes);
  out->set_available_bytes(plan.available_bytes);
}

void ToProto(const MemberAdvice& advice, v1::Advice* out) {
  out->set_sae_id(advice.sae_id);
  out->set_rule(advice.advice.rule);
  out->set_evidence(advice.advice.evidence);
  out->set_suggestion(advice.advice.suggestion);
}

}  // namespace featurescope

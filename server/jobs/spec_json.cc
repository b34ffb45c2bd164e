#include "server/jobs/spec_json.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/time/time.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/train/spec_fields.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

// The fields of each specification, listed once for both directions.
template <typename Visitor>
void VisitFields(MixedCorpus& corpus, Visitor& visit) {
  visit("corpus_id", corpus.corpus_id);
  visit("weight", corpus.weight);
}

template <typename Visitor>
void VisitFields(RawChannel& channel, Visitor& visit) {
  visit("paths", channel.paths);
  visit("dtype", channel.dtype);
  visit("width", channel.width);
}

template <typename Visitor>
void VisitFields(TrainingJob& job, Visitor& visit) {
  visit("sae_id", job.sae_id);
  visit("model_id", job.model_id);
  visit("corpus_id", job.corpus_id);
  visit("hook_name", job.hook_name);
  visit("hook_name_out", job.hook_name_out);
  visit("preset", job.preset);
  visit("corpus_weight", job.corpus_weight);
  visit("more_corpora", job.more_corpora);
  visit("activation_cache", job.activation_cache);
  visit("activation_files", job.activation_files);
  VisitTrainingSpec(job.training, visit);
}

template <typename Visitor>
void VisitFields(SweepJob& job, Visitor& visit) {
  visit("members", job.members);
}

template <typename Visitor>
void VisitFields(IndexingJob& job, Visitor& visit) {
  visit("sae_id", job.sae_id);
  visit("corpus_id", job.corpus_id);
  IndexSpec& s = job.indexing;
  visit("max_tokens", s.max_tokens);
  visit("top_examples", s.top_examples);
  visit("bands", s.bands);
  visit("examples_per_band", s.examples_per_band);
  visit("window", s.window);
  visit("logit_effects", s.logit_effects);
  visit("decode_every", s.decode_every);
  visit("seed", s.seed);
  visit("checkpoint_interval", s.checkpoint_interval);
}

template <typename Visitor>
void VisitFields(ImportJob& job, Visitor& visit) {
  visit("what", job.what);
  visit("id", job.id);
  visit("source", job.source);
  visit("revision", job.revision);
  visit("include", job.include);
  visit("model_id", job.model_id);
  visit("hook_name", job.hook_name);
  visit("center_writing_weights", job.center_writing_weights);
  visit("any_width", job.any_width);
}

// Whether a type is an object of named fields.
template <typename T>
inline constexpr bool kHasFields =
    std::is_same_v<T, MixedCorpus> || std::is_same_v<T, RawChannel> ||
    std::is_same_v<T, TrainingJob> || std::is_same_v<T, SweepJob> ||
    std::is_same_v<T, IndexingJob> || std::is_same_v<T, ImportJob>;

class Writer {
 public:
  template <typename T>
  void operator()(const char* key, const T& value) {
    json_[key] = Value(value);
  }
  template <typename T>
  static Json Value(const T& value) {
    if constexpr (std::is_same_v<T, absl::Duration>) {
      return absl::ToDoubleSeconds(value);
    } else if constexpr (std::is_same_v<T, ImportOf>) {
      return value == ImportOf::kModel ? "model" : "sae";
    } else if constexpr (std::is_enum_v<T>) {
      return std::string(EnumName(value));
    } else if constexpr (kHasFields<T>) {
      T fields = value;
      Writer writer;
      VisitFields(fields, writer);
      return std::move(writer.json_);
    } else {
      return value;
    }
  }
  template <typename T>
  static Json Value(const std::optional<T>& value) {
    return value ? Value(*value) : Json();
  }
  template <typename T>
  static Json Value(const std::vector<T>& values) {
    Json list = Json::array();
    for (const T& value : values) list.push_back(Value(value));
    return list;
  }

 private:
  Json json_ = Json::object();
};

// Fields that are absent keep their default: an older version did not know them.
class Reader {
 public:
  explicit Reader(const Json& json) : json_(json) {}

  template <typename T>
  void operator()(const char* key, T& value) {
    const Json* field = JsonFind(json_, key);
    if (field != nullptr && !Read(*field, value) && status_.ok()) {
      status_ = InvalidArgument("job specification: field ", key, " has the value ",
                                field->dump(-1, ' ', true, Json::error_handler_t::replace),
                                ", which is of another type or out of range");
    }
  }
  template <typename T>
  void operator()(const char* key, std::optional<T>& value) {
    if (JsonFind(json_, key) == nullptr) {
      value.reset();
      return;
    }
    T present{};
    (*this)(key, present);
    value = present;
  }
  const absl::Status& status() const { return status_; }

 private:
  static bool Read(const Json& field, std::string& value) {
    if (!field.is_string()) return false;
    value = field.get<std::string>();
    return true;
  }
  template <typename T>
  bool Read(const Json& field, std::vector<T>& values) {
    if (!field.is_array()) return false;
    values.clear();
    for (const Json& item : field) {
      if (!Read(item, values.emplace_back())) return false;
    }
    return true;
  }
  template <typename T, std::enable_if_t<kHasFields<T>, bool> = true>
  bool Read(const Json& field, T& value) {
    if (!field.is_object()) return false;
    Reader reader(field);
    VisitFields(value, reader);
    status_.Update(reader.status());
    return status_.ok();
  }
  template <typename E, std::enable_if_t<std::is_enum_v<E>, bool> = true>
  static bool Read(const Json& field, E& value) {
    std::string name;
    if (!Read(field, name)) return false;
    const std::optional<E> found = FindEnum<E>(name);
    if (found) value = *found;
    return found.has_value();
  }
  static bool Read(const Json& field, ImportOf& value) {
    std::string name;
    if (!Read(field, name) || (name != "model" && name != "sae")) return false;
    value = name == "model" ? ImportOf::kModel : ImportOf::kSae;
    return true;
  }
  static bool Read(const Json& field, bool& value) {
    if (!field.is_boolean()) return false;
    value = field.get<bool>();
    return true;
  }
  static bool Read(const Json& field, double& value) {
    if (!field.is_number()) return false;
    value = field.get<double>();
    return std::isfinite(value);
  }
  static bool Read(const Json& field, absl::Duration& value) {
    double seconds = 0;
    if (!Read(field, seconds)) return false;
    value = absl::Seconds(seconds);
    return true;
  }
  static bool Read(const Json& field, int64_t& value) {
    if (!field.is_number_integer()) return false;
    if (field.is_number_unsigned() &&
        field.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return false;
    }
    value = field.get<int64_t>();
    return true;
  }
  static bool Read(const Json& field, uint64_t& value) {
    if (!field.is_number_unsigned()) return false;
    value = field.get<uint64_t>();
    return true;
  }
  static bool Read(const Json& field, uint32_t& value) {
    uint64_t wide = 0;
    if (!Read(field, wide) || wide > std::numeric_limits<uint32_t>::max()) return false;
    value = static_cast<uint32_t>(wide);
    return true;
  }

  const Json& json_;
  absl::Status status_;
};

template <typename Job>
std::string Write(const Job& job) {
  return Writer::Value(job).dump(-1, ' ', false, Json::error_handler_t::replace);
}

template <typename Job>
absl::StatusOr<Job> Read(const Json& json) {
  if (!json.is_object()) return InvalidArgument("job specification: is no object");
  Job job;
  Reader reader(json);
  VisitFields(job, reader);
  RETURN_IF_ERROR(reader.status());
  return job;
}

template <typename Job>
absl::StatusOr<Job> Parse(absl::string_view text) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(text, "job specification"));
  return Read<Job>(json);
}

}  // namespace

std::string ToJson(const TrainingJob& job) { return Write(job); }
std::string ToJson(const SweepJob& job) { return Write(job); }
std::string ToJson(const IndexingJob& job) { return Write(job); }
std::string ToJson(const ImportJob& job) { return Write(job); }

absl::StatusOr<TrainingJob> TrainingJobFromJson(absl::string_view json) {
  return Parse<TrainingJob>(json);
}
absl::StatusOr<SweepJob> SweepJobFromJson(absl::string_view json) { return Parse<SweepJob>(json); }
absl::StatusOr<IndexingJob> IndexingJobFromJson(absl::string_view json) {
  return Parse<IndexingJob>(json);
}
absl::StatusOr<ImportJob> ImportJobFromJson(absl::string_view json) {
  return Parse<ImportJob>(json);
}

}  // namespace featurescope

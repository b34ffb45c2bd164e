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

namespace featurescope {
namespace {

using Json = nlohmann::json;

// The fields of each specification, listed once for both directions.
template <typename Visitor>
void VisitFields(TrainingSpec& s, Visitor& visit) {
  visit("architecture", s.architecture);
  visit("d_sae", s.d_sae);
  visit("k", s.k);
  visit("tokens", s.tokens);
  visit("batch_size", s.batch_size);
  visit("seed", s.seed);
  visit("learning_rate", s.learning_rate);
  visit("lr_warmup_steps", s.lr_warmup_steps);
  visit("lr_decay_steps", s.lr_decay_steps);
  visit("adam_beta1", s.adam_beta1);
  visit("adam_beta2", s.adam_beta2);
  visit("adam_epsilon", s.adam_epsilon);
  visit("clip_norm", s.clip_norm);
  visit("l1_coefficient", s.l1_coefficient);
  visit("l1_warmup_steps", s.l1_warmup_steps);
  visit("auxk_coefficient", s.auxk_coefficient);
  visit("k_aux", s.k_aux);
  visit("dead_after_tokens", s.dead_after_tokens);
  visit("b_dec_init", s.b_dec_init);
  visit("scale_inputs", s.scale_inputs);
  visit("buffer_tokens", s.buffer_tokens);
  visit("checkpoint_seconds", s.checkpoint_seconds);
  visit("checkpoint_steps", s.checkpoint_steps);
}

template <typename Visitor>
void VisitFields(TrainingJob& job, Visitor& visit) {
  visit("sae_id", job.sae_id);
  visit("model_id", job.model_id);
  visit("corpus_id", job.corpus_id);
  visit("hook_name", job.hook_name);
  VisitFields(job.training, visit);
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

class Writer {
 public:
  template <typename T>
  void operator()(const char* key, const T& value) {
    if constexpr (std::is_same_v<T, absl::Duration>) {
      json_[key] = absl::ToDoubleSeconds(value);
    } else if constexpr (std::is_same_v<T, DecoderBiasInit>) {
      const absl::string_view name = DecoderBiasInitName(value);
      json_[key] = std::string(name);
    } else if constexpr (std::is_same_v<T, ImportOf>) {
      json_[key] = value == ImportOf::kModel ? "model" : "sae";
    } else {
      json_[key] = value;
    }
  }
  template <typename T>
  void operator()(const char* key, const std::optional<T>& value) {
    json_[key] = value ? Json(*value) : Json();
  }
  std::string Text() const { return json_.dump(-1, ' ', false, Json::error_handler_t::replace); }

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
  static bool Read(const Json& field, std::vector<std::string>& value) {
    if (!field.is_array()) return false;
    value.clear();
    for (const Json& item : field) {
      if (!Read(item, value.emplace_back())) return false;
    }
    return true;
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
  static bool Read(const Json& field, DecoderBiasInit& value) {
    std::string name;
    if (!Read(field, name)) return false;
    for (const DecoderBiasInit init :
         {DecoderBiasInit::kGeometricMedian, DecoderBiasInit::kMean, DecoderBiasInit::kZeros}) {
      if (DecoderBiasInitName(init) == name) {
        value = init;
        return true;
      }
    }
    return false;
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
std::string Write(Job job) {
  Writer writer;
  VisitFields(job, writer);
  return writer.Text();
}

template <typename Job>
absl::StatusOr<Job> Parse(absl::string_view text) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(text, "job specification"));
  if (!json.is_object()) return InvalidArgument("job specification: is no object");
  Job job;
  Reader reader(json);
  VisitFields(job, reader);
  RETURN_IF_ERROR(reader.status());
  return job;
}

}  // namespace

std::string ToJson(const TrainingJob& job) { return Write(job); }
std::string ToJson(const IndexingJob& job) { return Write(job); }
std::string ToJson(const ImportJob& job) { return Write(job); }

absl::StatusOr<TrainingJob> TrainingJobFromJson(absl::string_view json) {
  return Parse<TrainingJob>(json);
}
absl::StatusOr<IndexingJob> IndexingJobFromJson(absl::string_view json) {
  return Parse<IndexingJob>(json);
}
absl::StatusOr<ImportJob> ImportJobFromJson(absl::string_view json) {
  return Parse<ImportJob>(json);
}

}  // namespace featurescope

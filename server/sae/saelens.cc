// SAELens directories: cfg.json and sae_weights.safetensors.
//
// From version 6 on cfg.json is nested (a "metadata" object); before, it was flat, with key names
// that changed over time. Unknown keys are ignored, as SAELens does; a known setting that changes
// the numbers and is not supported is refused by name.
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/base/hash.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/sae/architectures.h"
#include "server/sae/sae_files.h"
#include "server/tensor/weights.h"

namespace featurescope {
namespace {

constexpr char kConfigName[] = "cfg.json";
constexpr char kWeightsName[] = "sae_weights.safetensors";
// The version whose layout SaveSae writes.
constexpr char kWrittenVersion[] = "6.18.0";

using nlohmann::json;

absl::StatusOr<NormalizeActivations> ParseNormalization(const json& cfg, absl::string_view path) {
  const json* value = JsonFind(cfg, "normalize_activations");
  if (value == nullptr) return NormalizeActivations::kNone;
  // The oldest files have a flag.
  if (value->is_boolean()) {
    return value->get<bool>() ? NormalizeActivations::kExpectedAverageOnlyIn
                              : NormalizeActivations::kNone;
  }
  ASSIGN_OR_RETURN(const std::string name, JsonString(cfg, "normalize_activations", path));
  for (NormalizeActivations mode :
       {NormalizeActivations::kNone, NormalizeActivations::kExpectedAverageOnlyIn,
        NormalizeActivations::kConstantNormRescale, NormalizeActivations::kLayerNorm}) {
    if (name == NormalizeActivationsName(mode)) return mode;
  }
  return Unimplemented(path, ": normalize_activations '", name, "' is not supported");
}

// What both generations of cfg.json spell alike. `metadata` is where model and hook are named.
absl::Status ReadCommon(const json& cfg, const json& metadata, absl::string_view path,
                        SaeConfig* config) {
  ASSIGN_OR_RETURN(config->d_in, JsonInt(cfg, "d_in", path, 1, kMaxSaeWidth));
  ASSIGN_OR_RETURN(config->d_sae, JsonInt(cfg, "d_sae", path, 1, kMaxSaeWidth));
  ASSIGN_OR_RETURN(config->apply_b_dec_to_input,
                   JsonBoolOr(cfg, "apply_b_dec_to_input", path, true));
  ASSIGN_OR_RETURN(config->normalize_activations, ParseNormalization(cfg, path));
  ASSIGN_OR_RETURN(config->model_name, JsonStringOr(metadata, "model_name", path, ""));
  ASSIGN_OR_RETURN(config->context_size,
                   JsonIntOr(metadata, "context_size", path, 0, 0, kMaxSaeContext));
  ASSIGN_OR_RETURN(config->prepend_bos, JsonBoolOr(metadata, "prepend_bos", path, true));
  for (const char* key : {"hook_head_index", "hook_point_head_index"}) {
    if (JsonFind(metadata, key) != nullptr) {
      return Unimplemented(path, ": ", key, " is set; SAEs of a single head are not supported");
    }
  }
  return absl::OkStatus();
}

absl::Status ReadVersion6(const json& cfg, absl::string_view path, SaeConfig* config) {
  const json& metadata = *JsonFind(cfg, "metadata");
  RETURN_IF_ERROR(ReadCommon(cfg, metadata, path, config));
  ASSIGN_OR_RETURN(config->architecture, JsonStringOr(cfg, "architecture", path, "standard"));
  ASSIGN_OR_RETURN(config->hook_name, JsonStringOr(metadata, "hook_name", path, ""));
  ASSIGN_OR_RETURN(const std::string reshape,
                   JsonStringOr(cfg, "reshape_activations", path, "none"));
  if (reshape != "none" && reshape != "hook_z") {
    return Unimplemented(path, ": reshape_activations '", reshape, "' is not supported");
  }
  config->reshape_hook_z = reshape == "hook_z";
  if (config->architecture == "topk") {
    ASSIGN_OR_RETURN(config->k, JsonInt(cfg, "k", path, 1, config->d_sae));
    ASSIGN_OR_RETURN(config->rescale_acts_by_decoder_norm,
                     JsonBoolOr(cfg, "rescale_acts_by_decoder_norm", path, false));
  }
  ASSIGN_OR_RETURN(const std::string version,
                   JsonStringOr(metadata, "sae_lens_version", path, "6"));
  config->format = absl::StrCat("SAELens ", version);
  return absl::OkStatus();
}

// The activation function of a flat cfg.json turns a "standard" architecture into another one.
absl::Status ReadActivationFunction(const json& cfg, absl::string_view path, SaeConfig* config) {
  std::string function = "relu";
  for (const char* key : {"activation_fn", "activation_fn_str"}) {
    ASSIGN_OR_RETURN(function, JsonStringOr(cfg, key, path, function));
  }
  if (config->architecture == "standard" && function == "topk") config->architecture = "topk";
  if (function != "relu" && function != "topk") {
    return Unimplemented(path, ": activation function '", function, "' is not supported");
  }
  if (config->architecture != "topk") return absl::OkStatus();
  const json* arguments = JsonFind(cfg, "activation_fn_kwargs");
  const json& holder = arguments != nullptr && arguments->contains("k") ? *arguments : cfg;
  ASSIGN_OR_RETURN(config->k, JsonInt(holder, "k", path, 1, config->d_sae));
  return absl::OkStatus();
}

absl::Status ReadFlat(const json& cfg, absl::string_view path, SaeConfig* config) {
  RETURN_IF_ERROR(ReadCommon(cfg, cfg, path, config));
  ASSIGN_OR_RETURN(config->architecture, JsonStringOr(cfg, "architecture", path, "standard"));
  ASSIGN_OR_RETURN(config->hook_name, JsonStringOr(cfg, "hook_point", path, ""));
  ASSIGN_OR_RETURN(config->hook_name, JsonStringOr(cfg, "hook_name", path, config->hook_name));
  config->reshape_hook_z = absl::StrContains(config->hook_name, "hook_z");
  RETURN_IF_ERROR(ReadActivationFunction(cfg, path, config));
  const json* scaling = JsonFind(cfg, "finetuning_scaling_factor");
  if (scaling != nullptr && scaling->is_boolean() && scaling->get<bool>()) {
    return Unimplemented(path, ": finetuning_scaling_factor is not supported");
  }
  ASSIGN_OR_RETURN(std::string version, JsonStringOr(cfg, "sae_lens_version", path, ""));
  ASSIGN_OR_RETURN(version, JsonStringOr(cfg, "sae_lens_training_version", path, version));
  config->format = version.empty() ? "SAELens, before 6" : absl::StrCat("SAELens ", version);
  return absl::OkStatus();
}

// True where "metadata" says nothing or a version from 6 on.
bool IsVersion6(const json& cfg) {
  const json* metadata = JsonFind(cfg, "metadata");
  if (metadata == nullptr || !metadata->is_object()) return false;
  const json* version = JsonFind(*metadata, "sae_lens_version");
  if (version == nullptr || !version->is_string()) return true;
  int major = 0;
  const std::vector<std::string> parts = absl::StrSplit(version->get<std::string>(), '.');
  return !absl::SimpleAtoi(parts[0], &major) || major >= 6;
}

// A hash over what decides the numbers an SAE gives.
std::string HashSae(const SaeConfig& config, const SaeParameters& parameters) {
  Sha256 sha;
  sha.Update(absl::StrCat(config.architecture, "|", config.d_in, "|", config.d_sae, "|", config.k,
                          "|", config.apply_b_dec_to_input, "|",
                          NormalizeActivationsName(config.normalize_activations), "|",
                          config.rescale_acts_by_decoder_norm, "|", config.reshape_hook_z));
  for (const torch::Tensor& tensor :
       {parameters.W_enc, parameters.b_enc, parameters.W_dec, parameters.b_dec}) {
    const torch::Tensor cpu = tensor.cpu();
    sha.Update({static_cast<const char*>(cpu.data_ptr()), cpu.nbytes()});
  }
  return sha.HexDigest();
}

// A multiplier of the features from fine-tuning: harmless where it is one everywhere.
absl::Status CheckScalingFactor(const SafetensorsFile& file, int64_t d_sae) {
  for (const char* name : {"scaling_factor", "finetuning_scaling_factor"}) {
    if (file.Find(name) == nullptr) continue;
    ASSIGN_OR_RETURN(const torch::Tensor factor,
                     LoadTensor(file, name, {d_sae}, torch::kFloat32, torch::kCPU));
    if (!(factor == 1).all().item<bool>()) {
      return Unimplemented(file.path(), ": ", name, " is not one; it is not supported");
    }
  }
  return absl::OkStatus();
}

json ConfigJson(const SaeConfig& config) {
  json cfg = {{"architecture", config.architecture},
              {"d_in", config.d_in},
              {"d_sae", config.d_sae},
              {"dtype", "float32"},
              {"device", "cpu"},
              {"apply_b_dec_to_input", config.apply_b_dec_to_input},
              {"normalize_activations",
               std::string(NormalizeActivationsName(config.normalize_activations))},
              {"reshape_activations", config.reshape_hook_z ? "hook_z" : "none"}};
  if (config.architecture == "topk") {
    cfg["k"] = config.k;
    cfg["rescale_acts_by_decoder_norm"] = config.rescale_acts_by_decoder_norm;
  }
  cfg["metadata"] = {{"sae_lens_version", kWrittenVersion}, {"model_name", config.model_name},
                     {"hook_name", config.hook_name},       {"hook_head_index", nullptr},
                     {"prepend_bos", config.prepend_bos},   {"saved_by", "featurescope"}};
  if (config.context_size > 0) cfg["metadata"]["context_size"] = config.context_size;
  return cfg;
}

absl::StatusOr<SaeConfig> ReadSaeConfig(absl::string_view directory) {
  const std::string path = JoinPath(directory, kConfigName);
  ASSIGN_OR_RETURN(const json cfg, ReadJsonFile(path));
  if (!cfg.is_object()) return InvalidArgument(path, ": not a JSON object");
  SaeConfig config;
  RETURN_IF_ERROR(IsVersion6(cfg) ? ReadVersion6(cfg, path, &config)
                                  : ReadFlat(cfg, path, &config));
  return config;
}

}  // namespace

class SaeLoader {
 public:
  static void SetHash(Sae& sae, std::string hash) { sae.hash_ = std::move(hash); }
};

absl::StatusOr<std::shared_ptr<const Sae>> LoadSae(absl::string_view directory,
                                                   torch::Device device,
                                                   const LoadSaeOptions& options) {
  (void)options;
  ASSIGN_OR_RETURN(SaeConfig config, ReadSaeConfig(directory));
  const std::string path = JoinPath(directory, kWeightsName);
  // Before gigabytes are read.
  RETURN_IF_ERROR(
      Annotate(CheckSaeArchitecture(config.architecture), JoinPath(directory, kConfigName)));
  ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  RETURN_IF_ERROR(CheckScalingFactor(file, config.d_sae));
  const int64_t d_in = config.d_in;
  const int64_t d_sae = config.d_sae;
  SaeParameters parameters;
  ASSIGN_OR_RETURN(parameters.W_enc,
                   LoadTensor(file, "W_enc", {d_in, d_sae}, torch::kFloat32, device));
  ASSIGN_OR_RETURN(parameters.b_enc, LoadTensor(file, "b_enc", {d_sae}, torch::kFloat32, device));
  ASSIGN_OR_RETURN(parameters.W_dec,
                   LoadTensor(file, "W_dec", {d_sae, d_in}, torch::kFloat32, device));
  ASSIGN_OR_RETURN(parameters.b_dec, LoadTensor(file, "b_dec", {d_in}, torch::kFloat32, device));
  absl::StatusOr<std::shared_ptr<const Sae>> sae = Sae::Create(config, parameters);
  if (!sae.ok()) return Annotate(sae.status(), path);
  SaeLoader::SetHash(const_cast<Sae&>(**sae), HashSae((*sae)->config(), (*sae)->parameters()));
  return sae;
}

absl::Status SaveSae(const Sae& sae, absl::string_view directory) {
  const SaeParameters& p = sae.parameters();
  RETURN_IF_ERROR(SaveTensors(
      JoinPath(directory, kWeightsName),
      {{"W_enc", p.W_enc}, {"W_dec", p.W_dec}, {"b_enc", p.b_enc}, {"b_dec", p.b_dec}}));
  return WriteFileAtomically(JoinPath(directory, kConfigName), ConfigJson(sae.config()).dump(2));
}

}  // namespace featurescope
